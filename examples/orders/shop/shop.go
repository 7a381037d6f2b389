// Package shop is an HTTP API as many are: orders in memory, read and written by whoever reaches it. It takes JSON as
// encoding/json does, member names in any case, and the last of two; and of query parameters the first.
package shop

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
)

// Order is one order. Labels say whose it is; the shop itself does not look at them but to filter a list.
type Order struct {
	ID     string            `json:"id"`
	Item   string            `json:"item"`
	Labels map[string]string `json:"labels"`
}

type shop struct {
	mu     sync.Mutex
	orders map[string]*Order
	last   int
}

// New returns the API of an empty shop.
func New() http.Handler {
	s := &shop{orders: map[string]*Order{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /orders", s.list)
	mux.HandleFunc("POST /orders", s.create)
	mux.HandleFunc("POST /orders/import", s.load)
	mux.HandleFunc("GET /orders/{id}", s.read)
	mux.HandleFunc("PATCH /orders/{id}", s.update)
	mux.HandleFunc("DELETE /orders/{id}", s.remove)
	mux.HandleFunc("POST /refunds", s.refund)
	return mux
}

func (s *shop) list(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	owner, out := r.URL.Query().Get("owner"), []*Order{}
	for _, id := range slices.Sorted(maps.Keys(s.orders)) {
		if o := s.orders[id]; owner == "" || o.Labels["owner"] == owner {
			out = append(out, o)
		}
	}
	answer(w, http.StatusOK, out)
}

func (s *shop) create(w http.ResponseWriter, r *http.Request) {
	var o Order
	if !parse(w, r, &o) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	answer(w, http.StatusCreated, s.add(o))
}

func (s *shop) load(w http.ResponseWriter, r *http.Request) {
	var all struct{ Orders []Order }
	if !parse(w, r, &all) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []*Order{}
	for _, o := range all.Orders {
		out = append(out, s.add(o))
	}
	answer(w, http.StatusCreated, out)
}

func (s *shop) add(o Order) *Order {
	s.last++
	o.ID = strconv.Itoa(s.last)
	s.orders[o.ID] = &o
	return &o
}

func (s *shop) read(w http.ResponseWriter, r *http.Request) {
	s.with(w, r.PathValue("id"), func(o *Order) { answer(w, http.StatusOK, o) })
}

func (s *shop) update(w http.ResponseWriter, r *http.Request) {
	var patch Order
	if !parse(w, r, &patch) {
		return
	}
	s.with(w, r.PathValue("id"), func(o *Order) {
		if patch.Item != "" {
			o.Item = patch.Item
		}
		if o.Labels == nil {
			o.Labels = map[string]string{}
		}
		maps.Copy(o.Labels, patch.Labels)
		answer(w, http.StatusOK, o)
	})
}

func (s *shop) remove(w http.ResponseWriter, r *http.Request) {
	s.with(w, r.PathValue("id"), func(o *Order) {
		delete(s.orders, o.ID)
		w.WriteHeader(http.StatusNoContent)
	})
}

func (s *shop) refund(w http.ResponseWriter, r *http.Request) {
	var of struct{ OrderID string }
	if !parse(w, r, &of) {
		return
	}
	s.with(w, of.OrderID, func(o *Order) { answer(w, http.StatusCreated, map[string]string{"refunded": o.ID}) })
}

func (s *shop) with(w http.ResponseWriter, id string, f func(*Order)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.orders[id]; o != nil {
		f(o)
		return
	}
	answer(w, http.StatusNotFound, map[string]string{"error": "no such order"})
}

func parse(w http.ResponseWriter, r *http.Request, into any) bool {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err == nil && len(text) > 0 {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		answer(w, http.StatusBadRequest, map[string]string{"error": "no JSON"})
	}
	return err == nil
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("content-type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that has gone
}
