package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/usher-authz/usher/extauthz/token/tokentest"
)

func TestServe(t *testing.T) {
	assistant := "/assistants/" + thread

	t.Run("it_answers_and_ends_well_on_SIGTERM", func(t *testing.T) {
		noLeaks(t)
		w := newWorld(t)
		p := start(t, w.config).ready()
		for _, c := range []struct {
			path, token string
			want        int
		}{
			{"/ok", "", 200},
			{assistant, w.provider.Mint(), 200},
			{"/threads/" + thread, w.provider.Mint(), 200},
			{"/threads/" + thread, w.provider.Mint(tokentest.Claims{"sub": "bob"}), 404},
			{assistant, "", 401},
			{assistant, "a.b.c", 401},
			{"/nowhere", w.provider.Mint(), 404},
		} {
			if got := p.status("GET", c.path, c.token); got != c.want {
				t.Errorf("GET %s: %d, want %d", c.path, got, c.want)
			}
		}
		if got := p.health(); got != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Errorf("health is %v", got)
		}
		if code, body := p.get("/readyz"); code != 200 || !strings.Contains(body, `"company"`) || strings.Contains(body, "problem") {
			t.Errorf("readyz: %d %s", code, body)
		}
		if code, _ := p.get("/healthz"); code != 200 {
			t.Errorf("healthz: %d", code)
		}
		if code, _ := p.get("/"); code != 404 {
			t.Errorf("/: %d", code)
		}
		if !strings.Contains(strings.Join(p.services(), " "), "envoy.service.auth.v3.Authorization") {
			t.Error("reflection does not list the service")
		}
		p.terminate()
		p.logged("stopped")
		if code := p.wait(); code != exitGood {
			t.Errorf("exit code %d", code)
		}
	})

	t.Run("a_check_in_flight_is_finished_after_SIGTERM", func(t *testing.T) {
		noLeaks(t)
		w := newWorld(t)
		asked, release := make(chan struct{}), make(chan struct{})
		w.lookup = func() {
			close(asked)
			<-release
		}
		p := start(t, w.config).ready()
		answered := make(chan error, 1)
		go func() {
			_, err := p.check("GET", "/threads/"+thread, w.provider.Mint())
			answered <- err
		}()
		<-asked
		p.terminate()
		p.logged("draining")
		close(release)
		if err := <-answered; err != nil {
			t.Errorf("the check was cut off: %v", err)
		}
		if code := p.wait(); code != exitGood {
			t.Errorf("exit code %d", code)
		}
	})

	t.Run("while_draining_it_serves_on_and_says_so", func(t *testing.T) {
		noLeaks(t)
		w := newWorld(t)
		p := start(t, w.config, "--drain-delay", "4s").ready()
		watch, err := grpc_health_v1.NewHealthClient(p.connection).Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := watch.Recv(); err != nil || r.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Fatalf("%v %v", r, err)
		}
		p.terminate()
		if r, err := watch.Recv(); err != nil || r.GetStatus() != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
			t.Fatalf("%v %v", r, err)
		}
		if code, body := p.get("/readyz"); code != 503 || !strings.Contains(body, `"draining": true`) {
			t.Errorf("readyz: %d %s", code, body)
		}
		if got := p.status("GET", "/ok", ""); got != 200 {
			t.Errorf("status %d", got)
		}
		if code := p.wait(); code != exitGood {
			t.Errorf("exit code %d", code)
		}
	})

	t.Run("a_change_is_put_in_force_and_a_mistake_is_not", func(t *testing.T) {
		noLeaks(t)
		w := newWorld(t)
		p := start(t, w.config).ready()
		token := w.provider.Mint()
		if got := p.status("GET", assistant, token); got != 200 {
			t.Fatalf("status %d", got)
		}
		fetched := w.provider.Hits(tokentest.JWKS)

		w.write(t, "false")
		p.logged("manifests are in force")
		if got := p.status("GET", assistant, token); got != 403 {
			t.Errorf("after the change: %d", got)
		}
		if got := w.provider.Hits(tokentest.JWKS); got != fetched {
			t.Errorf("a rule's change made the provider's keys be fetched again: %d, %d", fetched, got)
		}

		w.write(t, "user.nobody")
		p.logged("manifests are invalid")
		if got := p.status("GET", assistant, token); got != 403 {
			t.Errorf("after the mistake: %d", got)
		}
		code, body := p.get("/readyz")
		if code != 200 || !strings.Contains(body, "undefined field 'nobody'") || !strings.Contains(body, `"problemCount": 1`) {
			t.Errorf("readyz: %d %s", code, body)
		}

		if err := os.Remove(w.config); err != nil {
			t.Fatal(err)
		}
		p.logged("manifests are invalid")
		if got := p.status("GET", assistant, token); got != 403 {
			t.Errorf("without a manifest: %d", got)
		}

		w.write(t, "true")
		p.logged("manifests are in force")
		if got := p.status("GET", assistant, token); got != 200 {
			t.Errorf("after the repair: %d", got)
		}
		if _, body := p.get("/readyz"); strings.Contains(body, "problem") {
			t.Errorf("readyz: %s", body)
		}
		p.stop()
	})

	t.Run("a_provider_that_is_down_at_start_is_waited_for", func(t *testing.T) {
		noLeaks(t)
		w := newWorld(t)
		w.provider.Say(tokentest.Discovery, tokentest.Answer{Status: 500})
		p := start(t, w.config)
		if line := p.logged("not ready"); fmt.Sprint(line["providers"]) != "[company]" {
			t.Errorf("waits for %v", line["providers"])
		}
		if code, body := p.get("/readyz"); code != 503 || !strings.Contains(body, `"problem": `) {
			t.Errorf("readyz: %d %s", code, body)
		}
		if got := p.health(); got != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
			t.Errorf("health is %v", got)
		}
		if got := p.status("GET", assistant, w.provider.Mint()); got != 503 {
			t.Errorf("status %d, want our own fault", got)
		}
		w.provider.Truth(tokentest.Discovery)
		p.ready()
		if got := p.status("GET", assistant, w.provider.Mint()); got != 200 {
			t.Errorf("status %d", got)
		}
		p.stop()
	})

	t.Run("a_Unix_socket_is_served_and_removed_and_a_stale_one_replaced", func(t *testing.T) {
		noLeaks(t)
		w := newWorld(t)
		// The path of a socket holds about 100 bytes, which a test's own directory may exceed.
		dir, err := os.MkdirTemp("", "usher")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		path := filepath.Join(dir, "usher.sock")
		stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
		if err != nil {
			t.Fatal(err)
		}
		stale.SetUnlinkOnClose(false)
		_ = stale.Close()

		p := start(t, w.config, "--grpc-address", "unix://"+path).ready()
		if got := p.status("GET", assistant, w.provider.Mint()); got != 200 {
			t.Errorf("status %d", got)
		}
		var second strings.Builder
		if code := run([]string{"serve", "--config", w.config, "--grpc-address", "unix://" + path, "--admin-address", ""}, io.Discard, &second); code != exitFailed || !strings.Contains(second.String(), "address already in use") {
			t.Errorf("a second usher on the socket: %d %s", code, &second)
		}
		p.stop()
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("the socket is still there: %v", err)
		}
	})

	t.Run("an_address_in_use_is_exit_1_with_a_hint", func(t *testing.T) {
		noLeaks(t)
		w := newWorld(t)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		for _, args := range [][]string{
			{"--grpc-address", l.Addr().String(), "--admin-address", ""},
			{"--grpc-address", "127.0.0.1:0", "--admin-address", l.Addr().String()},
		} {
			var errOut lockedBuilder
			code := run(append([]string{"serve", "--config", w.config}, args...), io.Discard, &errOut)
			text := errOut.String()
			if code != exitFailed || !strings.Contains(text, `usher: listen on "`+l.Addr().String()+`": address already in use`) || !strings.Contains(text, "hint: ") {
				t.Errorf("%d %s", code, text)
			}
		}
	})

	t.Run("a_body_of_the_limit_fits_into_a_check", func(t *testing.T) {
		noLeaks(t)
		w := newWorld(t)
		p := start(t, w.config).ready()
		body := `{"metadata": {}, "x": "` + strings.Repeat("x", maxRequestBytes-64) + `"}`
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		_, err := authv3.NewAuthorizationClient(p.connection).Check(ctx, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
			Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
				Method: "POST", Path: "/threads", Host: "agents.test", RawBody: []byte(body), Size: int64(len(body)),
				Headers: map[string]string{"authorization": "Bearer " + w.provider.Mint(), "content-type": "application/json"},
			}},
		}}, grpc.MaxCallRecvMsgSize(16<<20))
		if err != nil {
			t.Error(err)
		}
		p.stop()
	})
}
