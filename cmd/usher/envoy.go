package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/usher-authz/usher/envoy"
	"github.com/usher-authz/usher/k8s/api/v1alpha1"
	"github.com/usher-authz/usher/k8s/watch"
)

// maxRequestBytes is the default of --max-request-bytes, the same for Usher and for Envoy: agents are sent pictures.
const maxRequestBytes = 4 << 20

// maxRequestLimit bounds --max-request-bytes: each check in flight may hold that much.
const maxRequestLimit = 64 << 20

// writer writes Envoy's side in one format.
type writer func([]v1alpha1.AuthPolicy, envoy.Options) ([]byte, error)

var formats = map[string]writer{
	"bootstrap":     envoy.Bootstrap,
	"envoy-gateway": envoy.EnvoyGateway,
	"istio":         envoy.Istio,
	"istio-mesh":    envoy.IstioMesh,
}

// flagsOf says which flags only some formats read: any other one would do nothing, and look as if it did.
var flagsOf = map[string][]string{
	"listen-address": {"bootstrap"}, "envoy-admin-address": {"bootstrap"}, "backend-ca-file": {"bootstrap"},
	"tls-certificate-file": {"bootstrap"}, "tls-key-file": {"bootstrap"}, "tls-client-ca-file": {"bootstrap"}, "trusted-proxy-san": {"bootstrap"},
	"usher-tls-ca-file": {"bootstrap"}, "usher-tls-certificate-file": {"bootstrap"}, "usher-tls-key-file": {"bootstrap"},
	"output-directory": {"bootstrap"}, "sds-directory": {"bootstrap"},
	"usher-tls-ca": meshes, "usher-tls-client-secret": meshes, "usher-in-mesh": {"istio", "istio-mesh"},
	"gateway-class": {"envoy-gateway"}, "gateway-listener": {"envoy-gateway"},
	"gateway-selector": {"istio", "istio-mesh"}, "shared-gateway": {"istio", "istio-mesh"},
	"namespace": meshes, "gateway": meshes, "gateway-tls-secret": meshes, "gateway-client-ca-secret": meshes, "backend-ca": meshes,
}

var meshes = []string{"envoy-gateway", "istio", "istio-mesh"}

func checkFlags(f *pflag.FlagSet, format string) (err error) {
	f.Visit(func(flag *pflag.Flag) {
		if only := flagsOf[flag.Name]; err == nil && only != nil && !slices.Contains(only, format) {
			err = fmt.Errorf("envoy: --%s is for --format %s, found --format %s", flag.Name, strings.Join(only, " or "), format)
		}
	})
	return err
}

func newEnvoy(t *terminal) *cobra.Command {
	c := &cobra.Command{
		Use:   "envoy --config PATH",
		Short: "Write the Envoy side of the manifests",
		Long: "Envoy writes the complete configuration of an Envoy that asks Usher, for the policies of the manifests: a bootstrap, or the objects of a mesh.\n" +
			"docs/envoy.md, docs/envoy-gateway.md and docs/istio.md say how each is used.",
		Example: "  usher envoy --config policy.yaml > envoy.yaml\n  envoy -c envoy.yaml\n\n" +
			"  usher envoy --config policy.yaml --format envoy-gateway --namespace gate --gateway-class eg | kubectl apply -f -",
		Args: cobra.NoArgs,
	}
	var o envoy.Options
	var tls envoy.TLS
	var usher envoy.UsherTLS
	var timeout time.Duration
	f := c.Flags()
	config := f.String("config", "", "manifests: a file or a directory (required)")
	format := f.String("format", "bootstrap", "bootstrap: Envoy's whole configuration; envoy-gateway: objects for Envoy Gateway; istio: objects for Istio; istio-mesh: what its mesh configuration needs")
	f.StringVar(&o.ListenAddress, "listen-address", "127.0.0.1:8080", "where clients connect; 0.0.0.0:8080 for every address")
	f.StringVar(&o.UsherAddress, "usher-address", "127.0.0.1:9001", "where usher serve answers: host:port, or unix:///path; for a mesh NAME.NAMESPACE.svc:PORT (default there usher.usher.svc:9001)")
	f.StringVar(&usher.CAFile, "usher-tls-ca-file", "", "certificates that Usher's is verified against, on Envoy's machine; read again when they change (default no TLS to Usher)")
	f.StringVar(&usher.CertificateFile, "usher-tls-certificate-file", "", "Envoy's own certificate, for an Usher with --grpc-client-ca; read again when it changes (default none)")
	f.StringVar(&usher.KeyFile, "usher-tls-key-file", "", "its key")
	f.StringVar(&o.UsherSAN, "usher-tls-san", "", "the one name that Usher's certificate must have: URI such as spiffe://mesh/usher, or DNS name (default the name in --usher-address)")
	output := f.String("output-directory", "", "write envoy.yaml there, instead of to the terminal, and with --usher-tls-ca-file the files that it names")
	f.StringVar(&usher.SDSDirectory, "sds-directory", "", "what the output directory is called on Envoy's machine (default its absolute path here)")
	f.StringVar(&o.AdminAddress, "envoy-admin-address", "", "where Envoy's admin pages are; whoever reaches them can stop it (default none)")
	f.Uint32Var(&o.MaxRequestBytes, "max-request-bytes", maxRequestBytes, "largest body that is decided on; the same as for usher serve")
	f.StringVar(&o.BackendURL, "backend-url", "", "where the requests of policies without spec.backend go")
	f.StringVar(&o.BackendCAFile, "backend-ca-file", "", "certificates for https backends, on Envoy's machine (default the system's)")
	f.DurationVar(&timeout, "check-timeout", 0, "how long Envoy waits for Usher (default 200ms and more for large bodies)")
	f.Uint32Var(&o.TrustedHops, "trusted-hops", 0, "own proxies in front whose x-forwarded-for is believed")
	f.StringVar(&tls.CertificateFile, "tls-certificate-file", "", "certificate of the listener, on Envoy's machine (default no TLS)")
	f.StringVar(&tls.KeyFile, "tls-key-file", "", "its key")
	f.StringVar(&tls.ClientCAFile, "tls-client-ca-file", "", "certificates that client certificates are verified against; with --trusted-proxy-san, those of the proxies")
	f.StringArrayVar(&o.TrustedProxies, "trusted-proxy-san", nil, "URI or DNS name in the certificate of a proxy in front, for policies with clientCertificate; nobody else can then connect (may be repeated)")
	k := &o.Kubernetes
	f.StringVar(&k.Namespace, "namespace", "", "of the gateway and its objects (default \"default\", with istio \"istio-ingress\")")
	f.StringVar(&k.Gateway, "gateway", "usher", "name of the Gateway")
	f.StringVar(&k.GatewayClass, "gateway-class", "", "write the Gateway too, of this class (default: it is there, and holds nothing but what is guarded)")
	f.StringVar(&k.Listener, "gateway-listener", "", "name of its listener (default https with --gateway-tls-secret, else http)")
	f.StringVar(&k.TLSSecret, "gateway-tls-secret", "", "Secret with the certificate of its listener (default no TLS)")
	f.StringVar(&k.ClientCASecret, "gateway-client-ca-secret", "", "Secret whose ca.crt client certificates are verified against")
	f.StringVar(&k.BackendCA, "backend-ca", "", "what holds the ca.crt that https backends are verified against: for envoy-gateway a ConfigMap in the namespace of each, for istio a Secret in the gateway's (default the system's)")
	f.StringVar(&k.UsherCA, "usher-tls-ca", "", "what holds the ca.crt that Usher's certificate is verified against: for envoy-gateway a ConfigMap in Usher's namespace, for istio a Secret in the gateway's (default no TLS to Usher)")
	f.StringVar(&k.UsherClientSecret, "usher-tls-client-secret", "", "Secret in the gateway's namespace with the certificate that Envoy shows to Usher, and for istio with ca.crt too (default none)")
	f.BoolVar(&k.UsherInMesh, "usher-in-mesh", false, "Usher has Istio's sidecar: TLS to it is Istio's, with --usher-tls-san")
	f.StringArrayVar(&k.Selector, "gateway-selector", nil, "label of the pods of Istio's gateway, name=value (default istio=ingress; may be repeated)")
	f.BoolVar(&k.SharedGateway, "shared-gateway", false, "Istio's gateway serves other hosts too, about which nobody is asked")
	c.RunE = func(*cobra.Command, []string) error {
		if *config == "" {
			return errors.New("envoy: --config is missing")
		}
		write, known := formats[*format]
		if !known {
			return fmt.Errorf("envoy: --format %q: expected bootstrap, envoy-gateway, istio or istio-mesh", *format)
		}
		if err := checkFlags(f, *format); err != nil {
			return err
		}
		if *format != "bootstrap" && !f.Changed("usher-address") {
			o.UsherAddress = "" // the Service that envoy.Options says
		}
		if err := checkRequestBytes(o.MaxRequestBytes); err != nil {
			return err
		}
		if tls != (envoy.TLS{}) {
			o.TLS = &tls
		}
		o.CheckTimeout = timeout
		if usher != (envoy.UsherTLS{}) {
			o.UsherTLS = &usher
		}
		if err := sdsDirectory(o.UsherTLS, *output); err != nil {
			return fmt.Errorf("envoy: %w", err)
		}
		return writeEnvoy(t, *config, o, write, *output)
	}
	return c
}

func checkRequestBytes(n uint32) error {
	if n == 0 || n > maxRequestLimit {
		return fmt.Errorf("--max-request-bytes %d: expected 1 to %d", n, maxRequestLimit)
	}
	return nil
}

// sdsDirectory says where Envoy will find what is written to the output directory.
func sdsDirectory(o *envoy.UsherTLS, output string) (err error) {
	switch {
	case o == nil:
		return nil
	case output == "":
		return errors.New("--usher-tls-ca-file: Envoy reads a certificate again only if a file of its own names it: expected --output-directory, for these files")
	case o.SDSDirectory == "":
		o.SDSDirectory, err = filepath.Abs(output)
	}
	return err
}

// writeEnvoy writes to the terminal, or to an output directory.
func writeEnvoy(t *terminal, config string, o envoy.Options, write writer, output string) error {
	r := watch.Files{Paths: []string{config}, Presets: presets()}.Read()
	if _, problems := build(nil, r, nil); len(problems) > 0 {
		t.problems(t.err, problems)
		return &exitError{code: exitInvalid}
	}
	t.warnings(r.Compiled.Snapshot.Warnings())
	text, err := write(r.Compiled.Policies(), o)
	if err != nil {
		return failed(fmt.Errorf("write Envoy's configuration: %w", err))
	}
	if output == "" {
		return t.raw(text)
	}
	files, err := envoy.Secrets(o)
	if err != nil {
		return failed(fmt.Errorf("write Envoy's configuration: %w", err))
	}
	// The bootstrap last: it names the others.
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := putFile(filepath.Join(output, name), files[name]); err != nil {
			return failed(err)
		}
	}
	if err := putFile(filepath.Join(output, "envoy.yaml"), text); err != nil {
		return failed(err)
	}
	return nil
}

// putFile writes a file that another user, Envoy's, may read. A running Envoy sees the old one or the new one.
func putFile(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // nothing in it is secret
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".usher-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // if it is still there
	_, err = f.Write(text)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
