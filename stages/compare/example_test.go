package compare_test

import (
	"context"
	"fmt"

	"github.com/forgepipe/forgepipe/stages/compare"
	"github.com/forgepipe/forgepipe/stages/compare/sheet"
)

// Two folders are compared, of which one holds the pictures of the other four times
// smaller. With Out, a sheet of each pair would be drawn.
func ExampleFolders() {
	report, err := compare.Folders(context.Background(), "../../testdata/pairs/lq", "../../testdata/pairs/hq", compare.Options{
		Sheet: sheet.Options{Filter: "bicubic"},
		OnResult: func(r compare.Result) {
			fmt.Println(r.Name, r.State, r.Before, r.After, *r.PSNR > 20)
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(report.Pairs, "pairs,", report.OnlyBefore+report.OnlyAfter, "without a counterpart")
	// Output:
	// 0001 different 0001.png 0001.jpg true
	// 0002 different 0002.png 0002.jpg true
	// 0003 different 0003.png 0003.png true
	// more/0004 different more/0004.png more/0004.jpg true
	// 4 pairs, 0 without a counterpart
}
