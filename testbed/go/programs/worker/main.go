// Worker stands in a container for what a workflow would run: it says what it was asked to do and within which bounds, takes a
// moment, and is done.
package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

func main() {
	fmt.Println(strings.Join(os.Args, " "))
	if bounds, told := os.LookupEnv("COUNTERSIGN_CONSTRAINTS"); told {
		fmt.Println("within", bounds)
	}
	time.Sleep(200 * time.Millisecond)
	fmt.Println("done")
}
