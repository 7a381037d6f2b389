//go:build deps

package mesh

// Pins the Gateway API whose CRDs the tests apply.
import _ "sigs.k8s.io/gateway-api/apis/v1"
