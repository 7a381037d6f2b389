package watch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	certificateLife  = 90 * 24 * time.Hour // of a self-made certificate; two thirds of it gone, it is made anew
	certificateEvery = 20 * time.Second    // how often the Secret is read
	// announcedFor is how long an authority stands in the configuration before its certificate is served: the API server must
	// have seen it.
	announcedFor = 5 * time.Second
	selfMade     = "usher.dev/self-made"
)

// Certificate keeps the webhook's certificate, of a Secret of type kubernetes.io/tls. Where there is none, one is made with an
// authority of its own, rotated, and written into the webhook configuration, by whichever replica comes first. One that
// somebody else has put there is only read, and the configuration is his.
type Certificate struct {
	Config        *rest.Config
	Namespace     string   // of the Secret
	Secret        string   // its name
	Hosts         []string // names and addresses that the API server calls
	Configuration string   // name of the ValidatingWebhookConfiguration; empty: none is written
	Logger        *zap.Logger
	Now           func() time.Time // nil: time.Now

	current atomic.Pointer[tls.Certificate]
	client  client.Client
	version string // of the Secret that current is from
	next    string // version of the Secret that is announced, and will be served
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
	if c.Now == nil {
		c.Now = time.Now
	}
	var err error
	if c.client, err = newClient(c.Config, 10); err != nil {
		c.Logger.Error("the webhook has no certificate", zap.Error(err))
		return
	}
	said, again := "", time.Second
	for {
		wait, err := c.renew(ctx, c.Now())
		switch {
		case err == nil:
			said, again = "", time.Second
		case ctx.Err() == nil:
			again = min(2*again, certificateEvery)
			wait = again
			if said != err.Error() {
				said = err.Error()
				c.Logger.Warn("the webhook's certificate cannot be kept current; trying again", zap.Error(err))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// renew reads the Secret, makes what is missing or old, and tells the webhook configuration. It returns when to look again.
func (c *Certificate) renew(ctx context.Context, now time.Time) (time.Duration, error) {
	s := &corev1.Secret{}
	err := c.client.Get(ctx, types.NamespacedName{Namespace: c.Namespace, Name: c.Secret}, s)
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return 0, fmt.Errorf("read Secret %s/%s: %w", c.Namespace, c.Secret, err)
	}
	if missing || s.Labels[selfMade] == "true" && c.old(s, now) {
		if s, err = c.make(ctx, s, missing, now); err != nil {
			return 0, err
		}
	}
	own := s.Labels[selfMade] == "true" && c.Configuration != ""
	if own {
		err = c.announce(ctx, s.Data["ca.crt"], now)
	}
	served := c.current.Load()
	if s.ResourceVersion == c.version && served != nil {
		return certificateEvery, err
	}
	// Whoever serves one already goes on with it until the API server knows the authority of the next: both are announced.
	if own && served != nil && now.Before(served.Leaf.NotAfter) && c.next != s.ResourceVersion {
		if err == nil {
			c.next = s.ResourceVersion
		}
		return announcedFor, err
	}
	pair, bad := tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey])
	if bad != nil {
		return 0, errors.Join(err, fmt.Errorf("secret %s/%s: %w", c.Namespace, c.Secret, bad))
	}
	c.current.Store(&pair)
	c.version = s.ResourceVersion
	c.Logger.Info("the webhook's certificate is loaded", zap.String("secret", c.Secret), zap.Bool("self_made", s.Labels[selfMade] == "true"), zap.Time("until", pair.Leaf.NotAfter))
	if now.After(pair.Leaf.NotAfter) {
		err = errors.Join(err, fmt.Errorf("secret %s/%s: its certificate ended at %s", c.Namespace, c.Secret, pair.Leaf.NotAfter))
	}
	return certificateEvery, err
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
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.Data["ca.crt"])
	// Whether it began already is no question: a replica whose clock is behind must not make another one.
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: pair.Leaf.NotBefore}); err != nil {
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
func (c *Certificate) announce(ctx context.Context, ca []byte, now time.Time) (err error) {
	for range 3 { // another replica may be at it
		if err = c.announceOnce(ctx, ca, now); !apierrors.IsInvalid(err) {
			return err
		}
	}
	return err
}

func (c *Certificate) announceOnce(ctx context.Context, ca []byte, now time.Time) error {
	w := &admissionv1.ValidatingWebhookConfiguration{}
	if err := c.client.Get(ctx, types.NamespacedName{Name: c.Configuration}, w); err != nil {
		return fmt.Errorf("read ValidatingWebhookConfiguration %s: %w", c.Configuration, err)
	}
	type patch struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value any    `json:"value"`
	}
	patches := []patch{{"test", "/metadata/resourceVersion", w.ResourceVersion}}
	for i := range w.Webhooks {
		have := w.Webhooks[i].ClientConfig.CABundle
		if want := bundle(have, ca, now); string(want) != string(have) {
			patches = append(patches, patch{"add", fmt.Sprintf("/webhooks/%d/clientConfig/caBundle", i), want})
		}
	}
	if len(patches) == 1 {
		return nil
	}
	text, err := json.Marshal(patches)
	if err != nil {
		return err
	}
	if err := c.client.Patch(ctx, w, client.RawPatch(types.JSONPatchType, text)); err != nil {
		return fmt.Errorf("write the authority into ValidatingWebhookConfiguration %s: %w", c.Configuration, err)
	}
	c.Logger.Info("the authority of the webhook's certificate is announced", zap.String("configuration", c.Configuration))
	return nil
}
