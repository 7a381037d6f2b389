// Command orders serves a small shop's orders, without any auth code: policy.yaml beside it is all there is of that.
package main

import (
	"flag"
	"log"
	"net/http"
	"time"

	"github.com/usher-authz/usher/examples/orders/shop"
)

func main() {
	address := flag.String("address", "127.0.0.1:8000", "where to listen")
	flag.Parse()
	server := &http.Server{Addr: *address, Handler: shop.New(), ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}
