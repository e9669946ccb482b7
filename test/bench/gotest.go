package main

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// measurements are those of one benchmark, by unit.
type measurements map[string]float64

// benchmark runs benchmarks of a package and returns them by name, without "Benchmark" and the
// number of processors.
func (b *bench) benchmark(ctx context.Context, folder, pattern string) (map[string]measurements, error) {
	test, err := b.buildTests(ctx, folder)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	// Several short runs: the best of them is the least disturbed.
	each := max(100, b.seconds*200/3)
	out, err := command(ctx, "env", "--chdir="+filepath.Join(b.root, folder), test,
		"-test.run=^$", "-test.bench="+pattern, "-test.count=3", "-test.benchmem", "-test.benchtime="+strconv.Itoa(each)+"ms")
	if err != nil {
		return nil, err
	}
	found := parseBenchmarks(out)
	if len(found) == 0 {
		return nil, fmt.Errorf("package %s has no benchmark %s any more", folder, pattern)
	}
	return found, nil
}

// parseBenchmarks reads the testing package's output. Of several runs it takes the least of
// each unit.
func parseBenchmarks(out string) map[string]measurements {
	found := map[string]measurements{}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name := strings.TrimPrefix(f[0], "Benchmark")
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			if _, err := strconv.Atoi(name[i+1:]); err == nil {
				name = name[:i]
			}
		}
		m := found[name]
		if m == nil {
			m = measurements{}
			found[name] = m
		}
		for i := 2; i+1 < len(f); i += 2 {
			v, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				continue
			}
			if old, ok := m[f[i+1]]; !ok || v < old {
				m[f[i+1]] = v
			}
		}
	}
	return found
}

// need is a measurement that must be there.
func need(found map[string]measurements, name, unit string) (float64, error) {
	v, ok := found[name][unit]
	if !ok {
		return 0, fmt.Errorf("there is no Benchmark%s that tells %s any more", name, unit)
	}
	return v, nil
}

// espRaw is what the cipher alone takes.
func (b *bench) espRaw(ctx context.Context) (values, error) {
	found, err := b.benchmark(ctx, "esp", "^BenchmarkRaw$")
	if err != nil {
		return nil, err
	}
	return collect(found, map[string][2]string{"seal": {"Raw/seal", "ns/op"}, "open": {"Raw/open", "ns/op"}})
}

// espOurs is what ESP takes with the same cipher.
func (b *bench) espOurs(ctx context.Context) (values, error) {
	found, err := b.benchmark(ctx, "esp", "^Benchmark(Seal|Open)$/^aes256gcm16$")
	if err != nil {
		return nil, err
	}
	v, err := collect(found, map[string][2]string{"seal": {"Seal/aes256gcm16", "ns/op"}, "open": {"Open/aes256gcm16", "ns/op"}})
	if err != nil {
		return nil, err
	}
	batches, err := b.benchmark(ctx, "esp", "^Benchmark(Out|In)$")
	if err != nil {
		return nil, err
	}
	for _, all := range []map[string]measurements{found, batches} {
		for name := range all {
			n, err := need(all, name, "allocs/op")
			if err != nil {
				return nil, err
			}
			v["allocations"] = max(v["allocations"], n)
		}
	}
	return v, nil
}

// ike is what an IKE SA takes in time and memory.
func (b *bench) ike(ctx context.Context) (values, error) {
	found, err := b.benchmark(ctx, "ike", "^BenchmarkHandshakePSK$")
	if err != nil {
		return nil, err
	}
	memory, err := b.benchmark(ctx, "ike", "^BenchmarkIdleMemory$/^PSK$")
	if err != nil {
		return nil, err
	}
	maps.Copy(found, memory)
	v, err := collect(found, map[string][2]string{"ns": {"HandshakePSK", "ns/op"}, "memory": {"IdleMemory/PSK", "B/SA"}})
	if err != nil {
		return nil, err
	}
	return values{"handshakes": 1e9 / v["ns"], "memory": v["memory"] / 1024}, nil
}

// collect takes measurements by benchmark and unit.
func collect(found map[string]measurements, wanted map[string][2]string) (values, error) {
	v := values{}
	for key, at := range wanted {
		x, err := need(found, at[0], at[1])
		if err != nil {
			return nil, err
		}
		v[key] = x
	}
	return v, nil
}
