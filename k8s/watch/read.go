package watch

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/usher-authz/usher/k8s/manifest"
	"github.com/usher-authz/usher/policy"
)

// Reading is what the manifests said at one time. Compiled is nil if there are problems. The zero value is no reading.
type Reading struct {
	Compiled *manifest.Compiled
	Problems policy.Problems
	Files    int // that were read; 0: objects of a cluster
	Objects  int // of a cluster that were read

	digest digest
}

// digest identifies what was read: names, bytes and errors.
type digest [sha256.Size]byte

// maxFile bounds what is read of one file, a little above what package manifest accepts.
const maxFile = 8<<20 + 1

// maxFiles bounds the files of one directory.
const maxFiles = 10_000

// Read reads and compiles the manifests once.
func (f Files) Read() Reading { return f.compile(f.load(), nil) }

// file is one file as it was read: text or problem.
type file struct {
	name    string
	text    []byte
	problem *policy.Problem
}

// load reads the bytes of every file; it never fails, as what cannot be read is a file with a problem.
func (f Files) load() []file {
	var out []file
	for _, path := range f.Paths {
		info, err := os.Stat(path)
		switch {
		case err != nil:
			out = append(out, unreadable(path, err))
		case info.IsDir():
			out = append(out, loadDirectory(path)...)
		default:
			out = append(out, loadFile(path, path))
		}
	}
	return out
}

func loadDirectory(path string) []file {
	// A ConfigMap is mounted as links into ..data, which is itself a link that is swapped: to see all files of one
	// version, it is followed once.
	real := path
	if target, err := filepath.EvalSymlinks(filepath.Join(path, "..data")); err == nil {
		real = target
	}
	entries, err := os.ReadDir(real)
	if err != nil {
		return []file{unreadable(path, err)}
	}
	var out []file
	for _, e := range entries {
		if name := e.Name(); !strings.HasPrefix(name, ".") && isManifest(name) && !e.IsDir() {
			out = append(out, loadFile(filepath.Join(path, name), filepath.Join(real, name)))
		}
	}
	switch {
	case len(out) == 0:
		return []file{{name: path, problem: &policy.Problem{Pos: policy.Position{File: path}, Found: "found no manifests in this directory", Want: "files named *.yaml, *.yml or *.json", Hint: "directories within it are not looked at"}}}
	case len(out) > maxFiles:
		return []file{{name: path, problem: &policy.Problem{Pos: policy.Position{File: path}, Found: fmt.Sprintf("found %d files", len(out)), Want: fmt.Sprintf("at most %d", maxFiles)}}}
	}
	return out
}

func isManifest(name string) bool {
	return slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name))
}

// loadFile reads a file that is shown as name. Only a regular file is opened: a pipe would block.
func loadFile(name, path string) file {
	info, err := os.Stat(path)
	if err != nil {
		return unreadable(name, err)
	}
	if !info.Mode().IsRegular() {
		return unreadable(name, errors.New("not a regular file"))
	}
	r, err := os.Open(path) //nolint:gosec // the operator names it
	if err != nil {
		return unreadable(name, err)
	}
	defer func() { _ = r.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(r, maxFile))
	if err != nil {
		return unreadable(name, err)
	}
	return file{name: name, text: text}
}

func unreadable(name string, err error) file {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		err = pathError.Err // the name is shown already
	}
	p := policy.Problem{Pos: policy.Position{File: name}, Found: "cannot be read: " + err.Error(), Want: "a manifest, or a directory of them"}
	return file{name: name, problem: &p}
}

func digestOf(files []file) digest {
	h := sha256.New()
	part := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:]) // hash.Hash never returns an error
		h.Write(b)
	}
	for _, f := range files {
		part([]byte(f.name))
		part(f.text)
		if f.problem != nil {
			part([]byte(f.problem.Error()))
		} else {
			part(nil)
		}
	}
	return digest(h.Sum(nil))
}

// compile makes a reading of the files; policies that prev has alike are taken over.
func (f Files) compile(files []file, prev *manifest.Compiled) Reading {
	r := Reading{Files: len(files), digest: digestOf(files)}
	var objects []manifest.Object
	for _, f := range files {
		if f.problem != nil {
			r.Problems = append(r.Problems, *f.problem)
			objects = append(objects, manifest.Object{}) // what it holds is not known
			continue
		}
		os, ps := manifest.Parse(f.name, f.text)
		objects, r.Problems = append(objects, os...), append(r.Problems, ps...)
	}
	if len(objects) == 0 && len(r.Problems) > 0 {
		r.Problems.Sort()
		return r
	}
	compiled, ps := prev.Next(objects, f.Presets)
	r.Problems = append(r.Problems, ps...).Sort()
	if len(r.Problems) == 0 {
		r.Compiled = compiled
	}
	return r
}
