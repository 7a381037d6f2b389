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

func TestTheMemoryLimitIsTheOperatorsWhereTheySayOne(t *testing.T) {
	current := func() int64 { return debug.SetMemoryLimit(-1) }
	before := current()
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
				if held := current() != before; held != (name == "") {
					t.Errorf("the limit is %d, and was %d", current(), before)
				}
				cancel()
				synctest.Wait()
				if current() != before {
					t.Error("the limit stays after the end")
				}
			})
		})
	}
}
