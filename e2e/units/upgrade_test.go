package units

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A new version of the daemon comes to all machines, one after the other, and no unit
// notices.
func TestRollingUpgrade(t *testing.T) {
	fresh(t)
	put(t, 0, "global.service", sleeper("Global=true"))
	must(t, 0, "start", "global")
	names, lives := startThree(t)
	var globals []life
	for i := range cluster.Machines {
		until(t, "the global unit runs", func() bool { return alive(t, i, "global.service").active == "active" })
		globals = append(globals, alive(t, i, "global.service"))
	}
	for i, m := range cluster.Machines {
		require.NoError(t, m.Install(os.Getenv(upgradeVariable)))
		run(t, i, "systemctl", "restart", "keelson")
		exe, err := os.ReadFile(filepath.Join(m.Root(), "usr/bin/keelson"))
		require.NoError(t, err)
		require.Contains(t, string(exe), "next", "the new version is there")
		assert.NotContains(t, run(t, i, "readlink", "/proc/"+daemon(t, i)+"/exe").Out, "deleted", "the new version runs")
		ctx, cancel := context.WithTimeout(t.Context(), waitMax)
		require.NoError(t, cluster.Ready(ctx))
		cancel()
		list := must(t, i, "list-units", "--no-legend")
		assert.Equal(t, 6, strings.Count(list, "running"), list)
	}
	time.Sleep(ttl + time.Second) // whoever was given up would have been replaced by now
	same(t, names, lives)
	for i := range cluster.Machines {
		assert.Equal(t, globals[i], alive(t, i, "global.service"))
	}
	fmt.Println("a rolling upgrade of the daemon restarted none of 6 units")
}
