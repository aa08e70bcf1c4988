package lpips_test

import (
	"context"
	"errors"
	"testing"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/arch/archtest"
	"github.com/forgepipe/forgepipe/model/lpips"
)

// A network that a Runner runs on a device measures the same, to the last bit where that
// computes as the CPU does; where the device has no room, the error can be told.
func TestInfer(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	net := archtest.Read(t, "lpips-alex").Save(t, "lpips.safetensors", nil)
	a, b := part(photo(t, "boats"), 0, 0, 0.2, 0.2), part(photo(t, "boats"), 0.02, 0, 0.2, 0.2)
	for name, size := range map[string]int{"squashed": 40, "as they are": 0} {
		t.Run(name, func(t *testing.T) {
			own, err := lpips.Open(t.Context(), lpips.Options{Size: size, Threads: 1}, net)
			if err != nil {
				t.Fatal(err)
			}
			defer own.Close()
			want, err := own.Of(t.Context(), a, b)
			if err != nil {
				t.Fatal(err)
			}
			f, err := lpips.File(size, net)
			if err != nil {
				t.Fatal(err)
			}
			for _, limit := range []int64{1 << 30, 1000} {
				card := memory.NewLedger("sim:0", limit)
				r := model.NewRunner(model.RunnerOptions{
					Name: "lpips", Type: f.ElementType(), Batch: 1, Shrink: size == 0,
					Devices: []model.RunnerDevice{{
						Device: "sim:0", Ledger: card, Weights: f.Header.WeightBytes,
						Open: func(ctx context.Context) (model.Session, error) {
							return f.Load(ctx, model.SessionOptions{Device: "sim:0", ArenaLimit: limit})
						},
					}},
				})
				d, err := lpips.Open(t.Context(), lpips.Options{Size: size, Infer: r.Infer}, net)
				if err != nil {
					t.Fatal(err)
				}
				got, err := d.Of(t.Context(), a, b)
				var room *model.NoRoomError
				switch {
				case limit < 1<<20 && !errors.As(err, &room):
					t.Errorf("without room: %v, %v", got, err)
				case limit > 1<<20 && (err != nil || got != want):
					t.Errorf("the distance is %v, want %v: %v", got, want, err)
				}
				if u := card.Usage(); limit > 1<<20 && u.Peak == 0 {
					t.Errorf("nothing was leased: %+v", u)
				}
				if err := errors.Join(d.Close(), r.Close()); err != nil {
					t.Error(err)
				}
				if u := card.Usage(); u.Residency+u.Work != 0 {
					t.Errorf("leases are left: %+v", u)
				}
			}
		})
	}
}
