module github.com/usher-authz/usher/envoy/e2e

go 1.26.0

require (
	go.yaml.in/yaml/v3 v3.0.6
	golang.org/x/net v0.62.0
)
