package main

import (
	"context"
	"os"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"time"
)

const (
	// memoryGoal is what Usher's memory is held to, without the pages of the program itself, as long as what is in use leaves
	// the garbage collector room.
	memoryGoal = 60 << 20
	// memoryEvery is how often that is looked at: for so long the collector may work too hard.
	memoryEvery = 5 * time.Second
	// Between two runs of the collector memory may grow by so many per cent of what is in use: by leastPace as Go has it, and
	// within memoryGoal by mostPace. Each check allocates 6 kB, and with leastPace a fifth of its CPU time went into collecting.
	leastPace, mostPace = 100, 400
)

// holdMemory has the garbage collector run often enough that memory stays within memoryGoal, until ctx ends, and not more
// often. Go's own way, twice of what is in use, takes 112 MiB with 100,000 tokens. Where more than three quarters of the goal
// are in use, as with large bodies or manifests, the limit follows at 4/3 of it: a limit below would be a collector that
// never rests. GOMEMLIMIT takes the place of that limit, and with GOGC it does nothing: they say how memory is to be used.
func holdMemory(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	limited := os.Getenv("GOMEMLIMIT") != ""
	pace := leastPace
	if !limited {
		before := debug.SetMemoryLimit(memoryGoal)
		defer debug.SetMemoryLimit(before)
		pace = mostPace
	}
	before := debug.SetGCPercent(pace)
	defer debug.SetGCPercent(before)
	tick := time.NewTicker(memoryEvery)
	defer tick.Stop()
	sample := []runtimemetrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			runtimemetrics.Read(sample)
			if sample[0].Value.Kind() != runtimemetrics.KindUint64 {
				continue
			}
			live := int64(min(sample[0].Value.Uint64(), 1<<50))
			if !limited {
				debug.SetMemoryLimit(memoryLimit(live))
			}
			if next := memoryPace(live); next != pace { // a change stops the world
				debug.SetGCPercent(next)
				pace = next
			}
		}
	}
}

// memoryLimit is the limit for so many bytes in use.
func memoryLimit(live int64) int64 { return max(memoryGoal, live/3*4) }

// memoryPace is by how many per cent memory may grow from so many bytes in use: up to memoryGoal, in steps of 50.
func memoryPace(live int64) int {
	room := (memoryGoal - live) * 100 / max(live, 1)
	return int(min(max(room/50*50, leastPace), mostPace))
}
