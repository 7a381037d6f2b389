package watch

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	certificateLife  = 90 * 24 * time.Hour // of a self-made certificate; two thirds of it gone, it is made anew
	certificateEvery = time.Minute         // how often the Secret is read
	selfMade         = "usher.dev/self-made"
)

// Certificate keeps the webhook's certificate, of a Secret of type kubernetes.io/tls. Where there is none, one is made with an
// authority of its own, rotated, and written into the webhook configuration, by whichever replica comes first. One that
// somebody else has put there is only read.
type Certificate struct {
	Config        *rest.Config
	Namespace     string   // of the Secret
	Secret        string   // its name
	Hosts         []string // names and addresses that the API server calls
	Configuration string   // name of the ValidatingWebhookConfiguration; empty: none is written
	Logger        *zap.Logger

	current atomic.Pointer[tls.Certificate]
	client  client.Client
	version string // of the Secret that current is from
}

// Get is for tls.Config.GetCertificate.
func (c *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if cert := c.current.Load(); cert != nil {
		return cert, nil
	}
	return nil, errors.New("the webhook has no certificate yet")
}

// Run keeps it current until ctx ends. What goes wrong is logged, and tried again.
func (c *Certificate) Run(ctx context.Context) {
	scheme := runtime.NewScheme()
	err := errors.Join(corev1.AddToScheme(scheme), admissionv1.AddToScheme(scheme))
	if err == nil {
		c.client, err = client.New(c.Config, client.Options{Scheme: scheme})
	}
	if err != nil {
		c.Logger.Error("the webhook has no certificate", zap.Error(err))
		return
	}
	said := ""
	for {
		wait := certificateEvery
		if err := c.renew(ctx, time.Now()); err != nil && ctx.Err() == nil {
			wait = 2 * time.Second
			if said != err.Error() {
				said = err.Error()
				c.Logger.Warn("the webhook's certificate cannot be kept current; trying again", zap.Error(err))
			}
		} else {
			said = ""
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// renew reads the Secret, makes what is missing or old, and tells the webhook configuration.
func (c *Certificate) renew(ctx context.Context, now time.Time) error {
	s := &corev1.Secret{}
	err := c.client.Get(ctx, types.NamespacedName{Namespace: c.Namespace, Name: c.Secret}, s)
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return fmt.Errorf("read Secret %s/%s: %w", c.Namespace, c.Secret, err)
	}
	if missing || s.Labels[selfMade] == "true" && c.old(s, now) {
		if s, err = c.make(ctx, s, missing, now); err != nil {
			return err
		}
	}
	if s.ResourceVersion != c.version || c.current.Load() == nil {
		pair, err := tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey])
		if err != nil {
			return fmt.Errorf("secret %s/%s: %w", c.Namespace, c.Secret, err)
		}
		c.current.Store(&pair)
		c.version = s.ResourceVersion
		c.Logger.Info("the webhook's certificate is loaded", zap.String("secret", c.Secret), zap.Time("until", pair.Leaf.NotAfter))
	}
	if s.Labels[selfMade] != "true" || c.Configuration == "" {
		return nil
	}
	return c.announce(ctx, s.Data["ca.crt"])
}

// old reports whether a self-made certificate must be made anew.
func (c *Certificate) old(s *corev1.Secret, now time.Time) bool {
	pair, err := tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return true
	}
	if now.After(pair.Leaf.NotAfter.Add(-certificateLife / 3)) {
		return true
	}
	return slices.ContainsFunc(c.Hosts, func(h string) bool { return pair.Leaf.VerifyHostname(h) != nil })
}

// make writes a new certificate. If another replica was quicker, its is taken.
func (c *Certificate) make(ctx context.Context, old *corev1.Secret, create bool, now time.Time) (*corev1.Secret, error) {
	data, err := newCertificate(c.Hosts, now)
	if err != nil {
		return nil, err
	}
	s := old.DeepCopy()
	s.Name, s.Namespace, s.Type, s.Data = c.Secret, c.Namespace, corev1.SecretTypeTLS, data
	s.Labels = map[string]string{selfMade: "true"}
	if create {
		err = c.client.Create(ctx, s)
	} else {
		err = c.client.Update(ctx, s)
	}
	if apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err) {
		err = c.client.Get(ctx, types.NamespacedName{Namespace: c.Namespace, Name: c.Secret}, s)
	}
	if err != nil {
		return nil, fmt.Errorf("write Secret %s/%s: %w", c.Namespace, c.Secret, err)
	}
	return s, nil
}

// announce writes the authority into every webhook of the configuration.
func (c *Certificate) announce(ctx context.Context, ca []byte) error {
	w := &admissionv1.ValidatingWebhookConfiguration{}
	if err := c.client.Get(ctx, types.NamespacedName{Name: c.Configuration}, w); err != nil {
		return fmt.Errorf("read ValidatingWebhookConfiguration %s: %w", c.Configuration, err)
	}
	changed := false
	type patch struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value []byte `json:"value"`
	}
	var patches []patch
	for i := range w.Webhooks {
		if string(w.Webhooks[i].ClientConfig.CABundle) != string(ca) {
			changed = true
			patches = append(patches, patch{"add", fmt.Sprintf("/webhooks/%d/clientConfig/caBundle", i), ca})
		}
	}
	if !changed {
		return nil
	}
	text, err := json.Marshal(patches)
	if err != nil {
		return err
	}
	if err := c.client.Patch(ctx, w, client.RawPatch(types.JSONPatchType, text)); err != nil {
		return fmt.Errorf("write the authority into ValidatingWebhookConfiguration %s: %w", c.Configuration, err)
	}
	return nil
}

// newCertificate makes an authority that signs just one certificate, and whose key is thrown away.
func newCertificate(hosts []string, now time.Time) (map[string][]byte, error) {
	number := func() *big.Int {
		n, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)) // it never fails (crypto/rand)
		return n
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := &x509.Certificate{
		SerialNumber: number(), Subject: pkix.Name{CommonName: "usher webhook authority"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: number(), Subject: pkix.Name{CommonName: "usher webhook"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	return map[string][]byte{
		corev1.TLSCertKey: block("CERTIFICATE", der), corev1.TLSPrivateKeyKey: block("PRIVATE KEY", keyDER), "ca.crt": block("CERTIFICATE", caDER),
	}, nil
}
