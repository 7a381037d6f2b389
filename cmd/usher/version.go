package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker in a release; otherwise the module's own is taken.
var version string

// build information as version writes it, as JSON too. Fields are only ever added.
type versionInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Time     string `json:"time,omitempty"`     // of the revision
	Modified bool   `json:"modified,omitempty"` // built from more than the revision
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func newVersion(t *terminal) *cobra.Command {
	c := &cobra.Command{Use: "version", Short: "Say which Usher this is", Args: cobra.NoArgs}
	output := outputFlag(c)
	c.RunE = func(*cobra.Command, []string) error {
		if err := checkOutput(*output); err != nil {
			return err
		}
		v := readVersion()
		if *output == "json" {
			return t.json(v)
		}
		revision := ""
		if v.Revision != "" {
			revision = " (" + v.Revision[:min(12, len(v.Revision))]
			if v.Modified {
				revision += ", modified"
			}
			revision += ")"
		}
		t.result("usher %s%s %s %s", v.Version, revision, v.Go, v.Platform)
		return nil
	}
	return c
}

func readVersion() versionInfo {
	v := versionInfo{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if ok && v.Version == "" {
		v.Version = info.Main.Version
	}
	if v.Version == "" {
		v.Version = "(devel)"
	}
	if !ok {
		return v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.time":
			v.Time = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}
