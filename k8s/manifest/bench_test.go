package manifest

import (
	"fmt"
	"testing"
)

// BenchmarkRead and BenchmarkCompile are by size, as what one object costs must grow as it does: x-linear is the time for one rule,
// by that of the smallest size.
func BenchmarkRead(b *testing.B) {
	bySize(b, func(b *testing.B, text []byte) {
		for b.Loop() {
			Parse("AuthPolicy a/a", text)
		}
	})
}

func BenchmarkCompile(b *testing.B) {
	bySize(b, func(b *testing.B, text []byte) {
		provider, _ := Parse("IdentityProvider a/idp", []byte(costProvider("idp", "")[1]))
		objects, problems := Parse("AuthPolicy a/a", text)
		if len(problems) > 0 {
			b.Fatal(problems)
		}
		objects = append(provider, objects...)
		for b.Loop() {
			if _, verdicts := costKeeper().Compile(objects); len(verdicts["AuthPolicy a/a"].Problems) > 0 {
				b.Fatal(verdicts)
			}
		}
	})
}

func bySize(b *testing.B, run func(*testing.B, []byte)) {
	first := 0.0
	for _, n := range []int{125, 500, 2000} {
		text := costPolicy("a", "hosts: [a.test], providers: [idp], conditions: {c: '\"é\" in user.permissions'}, api: {routes: ["+
			items(n, func(i int) string { return fmt.Sprintf("{method: POST, path: /p%d, on: 'r%d:read'}", i, i) })+"]}, rules: ["+
			items(n, func(i int) string {
				return fmt.Sprintf("{on: 'r%d:read', allow: 'conditions.c && value.body.x == \"é%d\"'}", i, i)
			})+"]")[1]
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			run(b, []byte(text))
			each := float64(b.Elapsed()) / float64(b.N) / float64(n)
			if first == 0 {
				first = each
			}
			b.ReportMetric(each/first, "x-linear")
		})
	}
}
