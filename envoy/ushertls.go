package envoy

import (
	"errors"
	"fmt"
	"path"
)

// UsherTLS is TLS between Envoy and Usher: PEM files, as Envoy's own machine names them. TLS 1.3 only, and Usher's
// certificate is always verified: its chain against CAFile, its name against [Options.UsherSAN].
type UsherTLS struct {
	// CAFile holds the certificates that Usher's certificate is verified against.
	CAFile string
	// CertificateFile and KeyFile are Envoy's own certificate and its key, for an Usher that asks for one. Both or neither.
	CertificateFile string
	KeyFile         string
	// SDSDirectory is where Envoy finds the files of [Secrets]: an absolute path.
	SDSDirectory string
}

// The files of [Secrets], and what is in them.
const (
	authorityFile   = "usher-authority.yaml"
	certificateFile = "usher-certificate.yaml"
	authorityName   = "usher_authority"
	certificateName = "usher_certificate"
)

// secret is a reference to one of these files.
type secret struct{ Name, Path string }

// usherTLS is what the template shows.
type usherTLS struct {
	SNI         string // empty: Usher's address is no name
	SAN         san
	Authority   secret
	Certificate *secret // nil: Envoy shows none
}

// addUsherTLS adds how Envoy and Usher prove to each other who they are.
func (b *bootstrap) addUsherTLS(o Options) (problems []error) {
	if o.UsherTLS == nil {
		if o.UsherSAN != "" {
			problems = append(problems, fmt.Errorf("usher's SAN %q: without --usher-tls-ca-file nothing is verified: expected both or neither", o.UsherSAN))
		}
		return problems
	}
	problems = o.UsherTLS.check()
	name, err := usherSAN(o.UsherSAN, b.Usher)
	if err != nil {
		problems = append(problems, err)
	}
	t := &usherTLS{SAN: name, Authority: secret{authorityName, path.Join(o.UsherTLS.SDSDirectory, authorityFile)}}
	if b.Usher.Named {
		t.SNI = b.Usher.Host
	}
	if o.UsherTLS.CertificateFile != "" {
		t.Certificate = &secret{certificateName, path.Join(o.UsherTLS.SDSDirectory, certificateFile)}
	}
	b.UsherTLS = t
	return problems
}

func (t *UsherTLS) check() (problems []error) {
	if t.CAFile == "" {
		problems = append(problems, errors.New("TLS to Usher: its certificate would not be verified: expected --usher-tls-ca-file"))
	}
	if (t.CertificateFile == "") != (t.KeyFile == "") {
		problems = append(problems, errors.New("TLS to Usher: --usher-tls-certificate-file and --usher-tls-key-file: expected both or neither"))
	}
	if !path.IsAbs(t.SDSDirectory) {
		problems = append(problems, fmt.Errorf("TLS to Usher: SDS directory %q: expected an absolute path, as Envoy's machine names it", t.SDSDirectory))
	}
	return problems
}

// usherSAN is the name that Usher's certificate must have. By default it is the one that Envoy connects to, which only a name can
// be: whoever gets the same address, or may write to a directory, is not Usher for that.
func usherSAN(text string, usher endpoint) (san, error) {
	if text == "" && !usher.Named {
		return san{}, errors.New("TLS to Usher: its address is no name that its certificate could have: expected --usher-tls-san")
	}
	if text == "" {
		return san{"DNS", usher.Host}, nil
	}
	name, err := parseSAN(text)
	if err != nil {
		return san{}, fmt.Errorf("usher's SAN %q: %w", text, err)
	}
	return name, nil
}

// Secrets returns the files of [UsherTLS.SDSDirectory] by their names; none without [Options.UsherTLS]. They hold no secret, but
// name the files that do: Envoy reads again what comes by its secret discovery service (SDS), of which these are the smallest
// kind, and nothing that stands in its bootstrap.
func Secrets(o Options) (map[string][]byte, error) {
	if o.UsherTLS == nil {
		return nil, nil
	}
	if problems := o.UsherTLS.check(); len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	files := map[string][]byte{}
	for file, values := range map[string]secretFile{
		authorityFile:   {authorityName, "What Usher's certificate is verified against.", o.UsherTLS},
		certificateFile: {certificateName, "What Envoy shows to Usher.", o.UsherTLS},
	} {
		if values.Name == certificateName && values.CertificateFile == "" {
			continue
		}
		text, err := fill(file, secretTemplate, values)
		if err != nil {
			return nil, err
		}
		files[file] = text
	}
	return files, nil
}

// secretFile is what the template of one of the files shows.
type secretFile struct {
	Name, What string
	*UsherTLS
}

const secretTemplate = `# {{.What}} Written by ` + "`usher envoy`" + `, beside its bootstrap.
#
# Envoy reads the file below again when something in its directory was renamed: by "mv", or as Kubernetes changes a mounted
# Secret. It does not notice a file that is written to in place. What is no good leaves the last good one in force.
resources:
- "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
  name: {{.Name}}
{{- if eq .Name "` + authorityName + `"}}
  validation_context:
    trusted_ca: {filename: {{q .CAFile}}}
{{- else}}
  tls_certificate:
    certificate_chain: {filename: {{q .CertificateFile}}}
    private_key: {filename: {{q .KeyFile}}}
{{- end}}
`
