package decisions_test

import (
	"fmt"
	"log"
	"strings"

	"github.com/forgepipe/forgepipe/stages/dedup/decisions"
)

// A person has filled in two of the rows of a run.
func Example() {
	f, err := decisions.Parse(strings.NewReader(`decision,item,keeper,by,distance,rule
different,trip/2.jpg,trip/1.jpg,pdq,12,pixels
keep,cover.jpg,trip/1.jpg,pdq,4,pixels
,trip/3.jpg,trip/1.jpg,pdq,0,id
`), "decisions.csv")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(f.Different("trip/1.jpg", "trip/2.jpg"), f.Keep("cover.jpg"), f.Reject("trip/3.jpg"))
	// Output: true true false
}
