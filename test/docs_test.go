package test

import (
	"go/ast"
	"go/token"
	"slices"
	"testing"
)

// TestDocumented: every exported name says what it is. A method that an interface of its
// package or of the standard library demands is described there; a constant of an
// group that has an exported type, with that type.
func TestDocumented(t *testing.T) {
	byDir := map[string][]*source{}
	for _, s := range sources(t) {
		if !s.test && s.file.Name.Name != "main" {
			byDir[s.dir] = append(byDir[s.dir], s)
		}
	}
	for dir, ss := range byDir {
		if !slices.ContainsFunc(ss, func(s *source) bool { return s.file.Doc != nil }) {
			t.Errorf("package %s has no comment", dir)
		}
		demanded := demandedMethods(ss)
		for _, s := range ss {
			for _, d := range s.file.Decls {
				switch d := d.(type) {
				case *ast.FuncDecl:
					if exportedFunc(d) && d.Doc == nil && !(d.Recv != nil && demanded[d.Name.Name]) {
						t.Errorf("%s: %s has no comment", s.pos(d), d.Name.Name)
					}
				case *ast.GenDecl:
					undocumented(d, func(n *ast.Ident) { t.Errorf("%s: %s has no comment", s.pos(n), n.Name) })
				}
			}
		}
	}
}

// demandedMethods are the names of methods of interfaces of a package, and of well-known ones.
func demandedMethods(ss []*source) map[string]bool {
	out := map[string]bool{}
	for _, name := range []string{
		"Error", "Unwrap", "Is", "String", "GoString", "Format", "Read", "Write", "Close", "Len", "Less", "Swap", "Push", "Pop",
		"MarshalJSON", "UnmarshalJSON", "MarshalText", "UnmarshalText", "MarshalTOML", "UnmarshalTOML", "MarshalLogObject",
		"LocalAddr", "RemoteAddr", "SetDeadline", "SetReadDeadline", "SetWriteDeadline", "Network", "Timeout", "Temporary",
	} {
		out[name] = true
	}
	for _, s := range ss {
		ast.Inspect(s.file, func(n ast.Node) bool {
			if i, ok := n.(*ast.InterfaceType); ok {
				for _, m := range i.Methods.List {
					for _, name := range m.Names {
						out[name.Name] = true
					}
				}
			}
			return true
		})
	}
	return out
}

// exportedFunc reports whether a function, or a method of an exported type, is exported.
func exportedFunc(f *ast.FuncDecl) bool {
	if !f.Name.IsExported() {
		return false
	}
	if f.Recv == nil {
		return true
	}
	typ := f.Recv.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.IndexListExpr:
			typ = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

// undocumented calls report for each exported name of d without a comment of its own or
// of its group.
func undocumented(d *ast.GenDecl, report func(*ast.Ident)) {
	typed := false
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			if spec.Name.IsExported() && d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
				report(spec.Name)
			}
		case *ast.ValueSpec:
			if id, ok := spec.Type.(*ast.Ident); ok {
				typed = id.IsExported()
			}
			if d.Doc != nil || spec.Doc != nil || spec.Comment != nil || d.Tok == token.CONST && typed {
				continue
			}
			for _, n := range spec.Names {
				if n.IsExported() {
					report(n)
				}
			}
		}
	}
}
