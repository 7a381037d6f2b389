#!/usr/bin/env bash
# Builds the programs of the Kubernetes tests into <repository>/.tools/k8s: etcd, kube-apiserver, kubectl, helm and Envoy
# Gateway's egctl, each from the Go module that its directory here pins; and buildah, for images, which is the distribution's. It
# takes some minutes the first time. A second run with nothing changed does nothing.
set -euo pipefail

parts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$parts/../../.." && pwd)
tools=$root/.tools/k8s
name='k8s tools'
logs=$tools
. "$root/envoy/e2e/parts/debian.sh"
mkdir -p "$tools"

# build NUMBER MODULE PACKAGE NAME [LINKER FLAGS]
build() {
  local stamp
  stamp=$({ cat "$parts/$2/go.mod" "$parts/$2/go.sum" && printf '%s' "${5:-}"; } | sha256sum | cut -d' ' -f1)
  if [ "$(cat "$tools/$4.stamp" 2>/dev/null)" = "$stamp" ] && [ -x "$tools/$4" ]; then
    return
  fi
  local begin=$SECONDS
  printf '%s: %s/5 %s ...' "$name" "$1" "$4"
  # Debugging symbols would double time and size.
  if ! (cd "$parts/$2" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w ${5:-}" -o "$tools/$4" "$3") >"$tools/$4.log" 2>&1; then
    printf '\n'
    cat "$tools/$4.log" >&2
    stop "building $4 failed; its output is above"
  fi
  printf ' built in %s s\n' "$((SECONDS - begin))"
  printf '%s\n' "$stamp" >"$tools/$4.stamp"
}

# What the linker of a release of Kubernetes is told: Helm refuses a server that does not know its version.
kubernetes_version() {
  local version major minor _
  version=$(sed -n 's/^\tk8s.io\/kubernetes \(v[0-9.]*\)$/\1/p; s/^require k8s.io\/kubernetes \(v[0-9.]*\)$/\1/p' "$parts/kubernetes/go.mod")
  IFS=. read -r major minor _ <<<"${version#v}"
  printf -- '-X k8s.io/component-base/version.%s ' "gitVersion=$version" "gitMajor=$major" "gitMinor=$minor"
}

build 1 etcd go.etcd.io/etcd/server/v3 etcd
build 2 kubernetes k8s.io/kubernetes/cmd/kube-apiserver kube-apiserver "$(kubernetes_version)"
build 3 kubernetes k8s.io/kubernetes/cmd/kubectl kubectl "$(kubernetes_version)"
build 4 helm helm.sh/helm/v4/cmd/helm helm
build 5 egctl github.com/envoyproxy/gateway/cmd/egctl egctl
install_debian buildah https://github.com/containers/buildah/blob/main/install.md 1.23 "$tools" buildah buildah -- buildah
say 'all are in .tools/k8s'
