// Command argocd-cmp-server is Argo CD's own plugin sidecar and nothing else of Argo CD: the server that
// regent stands in for, as a measure and as a check of these tests.
package main

import (
	"fmt"
	"os"

	"github.com/argoproj/argo-cd/v3/cmd/argocd-cmp-server/commands"
)

func main() {
	if err := commands.NewCommand().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
