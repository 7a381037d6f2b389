package main

import (
	"context"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheMemoryLimitFollowsWhatIsInUse(t *testing.T) {
	for _, c := range []struct{ live, want int64 }{
		{0, memoryGoal}, {30 << 20, memoryGoal}, {45 << 20, memoryGoal}, {60 << 20, 80 << 20}, {3 << 30, 4 << 30}, {1 << 50, 1 << 50 / 3 * 4},
	} {
		if got := memoryLimit(c.live); got != c.want {
			t.Errorf("%d in use: %d, want %d", c.live, got, c.want)
		}
	}
}

func TestTheCollectorRunsSeldomWithinTheGoal(t *testing.T) {
	for _, c := range []struct {
		live int64
		want int
	}{
		{0, 400}, {1 << 20, 400}, {12 << 20, 400}, {15 << 20, 300}, {20 << 20, 200}, {24 << 20, 150}, {30 << 20, 100}, {37 << 20, 100}, {60 << 20, 100}, {3 << 30, 100}, {1 << 50, 100},
	} {
		got := memoryPace(c.live)
		if got != c.want {
			t.Errorf("%d in use: %d, want %d", c.live, got, c.want)
		}
		if most := c.live + c.live/100*int64(got); got > leastPace && most > memoryGoal {
			t.Errorf("%d in use grow to %d", c.live, most)
		}
	}
}

func TestMemoryIsTheOperatorsWhereTheySayHowItIsUsed(t *testing.T) {
	limit := func() int64 { return debug.SetMemoryLimit(-1) }
	pace := func() int {
		now := debug.SetGCPercent(leastPace)
		debug.SetGCPercent(now)
		return now
	}
	limitBefore, paceBefore := limit(), pace()
	for _, name := range []string{"GOMEMLIMIT", "GOGC", ""} {
		t.Run("set by "+name, func(t *testing.T) {
			t.Setenv("GOMEMLIMIT", "")
			t.Setenv("GOGC", "")
			if name != "" {
				t.Setenv(name, "100")
			}
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				go holdMemory(ctx)
				time.Sleep(memoryEvery + 1)
				synctest.Wait()
				if held := limit() != limitBefore; held != (name == "") {
					t.Errorf("the limit is %d, and was %d", limit(), limitBefore)
				}
				if held := pace() != paceBefore; held != (name != "GOGC") {
					t.Errorf("the collector's pace is %d, and was %d", pace(), paceBefore)
				}
				cancel()
				synctest.Wait()
				if limit() != limitBefore || pace() != paceBefore {
					t.Error("the limit or the pace stays after the end")
				}
			})
		})
	}
}
