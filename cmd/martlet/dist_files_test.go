package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// The structures have the fields that the files may have, and no others: what Pod Security
// "restricted" forbids altogether (host namespaces and ports, privileged, added capabilities,
// procMount, sysctls, SELinux types, AppArmor profiles, volumes of the host, probes to other
// hosts) cannot be decoded.
type (
	pod struct {
		Spec struct {
			TerminationGracePeriodSeconds int            `yaml:"terminationGracePeriodSeconds"`
			AutomountServiceAccountToken  *bool          `yaml:"automountServiceAccountToken"`
			SecurityContext               podSecurity    `yaml:"securityContext"`
			InitContainers                []podContainer `yaml:"initContainers"`
			Containers                    []podContainer
			Volumes                       []struct {
				Name     string
				EmptyDir *struct {
					Medium    string
					SizeLimit string `yaml:"sizeLimit"`
				} `yaml:"emptyDir"`
				Secret *struct {
					SecretName  string `yaml:"secretName"`
					DefaultMode int    `yaml:"defaultMode"`
				}
			}
		}
	}
	podSecurity struct {
		RunAsNonRoot   bool `yaml:"runAsNonRoot"`
		RunAsUser      int  `yaml:"runAsUser"`
		RunAsGroup     int  `yaml:"runAsGroup"`
		FSGroup        int  `yaml:"fsGroup"`
		SeccompProfile struct {
			Type string
		} `yaml:"seccompProfile"`
	}
	podContainer struct {
		Name, Image   string
		RestartPolicy string `yaml:"restartPolicy"`
		Command, Args []string
		Env           []struct{ Name, Value string }
		EnvFrom       []struct {
			ConfigMapRef struct{ Name string } `yaml:"configMapRef"`
		} `yaml:"envFrom"`
		SecurityContext struct {
			RunAsNonRoot             bool  `yaml:"runAsNonRoot"`
			RunAsUser                int   `yaml:"runAsUser"`
			RunAsGroup               int   `yaml:"runAsGroup"`
			AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
			ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
			Capabilities             struct{ Drop []string }
			SeccompProfile           struct{ Type string } `yaml:"seccompProfile"`
		} `yaml:"securityContext"`
		Resources struct {
			Requests, Limits struct{ CPU, Memory string }
		}
		StartupProbe   *podProbe  `yaml:"startupProbe"`
		LivenessProbe  *podProbe  `yaml:"livenessProbe"`
		ReadinessProbe *podProbe  `yaml:"readinessProbe"`
		VolumeMounts   []podMount `yaml:"volumeMounts"`
	}
	podMount struct {
		Name      string
		MountPath string `yaml:"mountPath"`
		ReadOnly  bool   `yaml:"readOnly"`
	}
	podProbe struct {
		Exec             struct{ Command []string }
		PeriodSeconds    int `yaml:"periodSeconds"`
		TimeoutSeconds   int `yaml:"timeoutSeconds"`
		FailureThreshold int `yaml:"failureThreshold"`
	}
	composition struct {
		Services map[string]service
		Secrets  map[string]struct{ File string }
	}
	service struct {
		Image       string
		Build       *struct{ Context, Dockerfile string }
		Command     []string
		User        string
		ReadOnly    bool     `yaml:"read_only"`
		CapDrop     []string `yaml:"cap_drop"`
		SecurityOpt []string `yaml:"security_opt"`
		Environment map[string]string
		Secrets     []string
		Tmpfs       []string
		MemLimit    string        `yaml:"mem_limit"`
		Grace       time.Duration `yaml:"stop_grace_period"`
		Restart     string
		NetworkMode string `yaml:"network_mode"`
		Healthcheck *struct {
			Test          []string
			Interval      time.Duration
			Timeout       time.Duration
			StartPeriod   time.Duration `yaml:"start_period"`
			StartInterval time.Duration `yaml:"start_interval"`
		}
		DependsOn map[string]struct {
			Condition string
			Restart   bool
		} `yaml:"depends_on"`
	}
)

func dist(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("dist", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// kubernetes decodes the manifest: the ConfigMap's data and the pod.
func kubernetes(t *testing.T) (environment map[string]string, p pod) {
	t.Helper()
	documents := yaml.NewDecoder(bytes.NewReader(dist(t, "kubernetes.yaml")))
	for {
		var node yaml.Node
		err := documents.Decode(&node)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		object := map[string]yaml.Node{}
		if err := node.Decode(&object); err != nil {
			t.Fatal(err)
		}
		switch kind := object["kind"].Value; kind {
		case "Namespace":
		case "ConfigMap":
			data := object["data"]
			if err := data.Decode(&environment); err != nil {
				t.Fatal(err)
			}
		case "Pod":
			spec := object["spec"]
			strictly(t, map[string]any{"spec": &spec}, &p)
		default:
			t.Errorf("a %s is in the manifest", kind)
		}
	}
	return environment, p
}

// strictly decodes what has no field that into does not have.
func strictly(t *testing.T, from, into any) {
	t.Helper()
	text, err := yaml.Marshal(from)
	if err != nil {
		t.Fatal(err)
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		t.Fatal(err)
	}
}

func compose(t *testing.T) composition {
	t.Helper()
	var c composition
	d := yaml.NewDecoder(bytes.NewReader(dist(t, "compose.yaml")))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil {
		t.Fatal(err)
	}
	return c
}
