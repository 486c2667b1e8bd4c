package options

import (
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/unit"
)

// oneFile is a machine with one file.
func oneFile(name, text string) func(string) ([]byte, error) {
	return func(n string) ([]byte, error) {
		if n != name {
			return nil, &fs.PathError{Op: "open", Path: n, Err: fs.ErrNotExist}
		}
		return []byte(text), nil
	}
}

func TestUnitDefaults(t *testing.T) {
	u := parse(t, "").Units
	assert.Equal(t, UnitsOff, u.Manager, "as etcd")
	s, err := Parse(Source{})
	require.NoError(t, err)
	u = s.Units
	assert.Equal(t, UnitsAuto, u.Manager)
	assert.Equal(t, "/etc/machine-id", u.MachineIDFile)
	assert.Equal(t, 30*time.Second, u.Fleet.TTL)
	assert.Equal(t, 2*time.Second, u.Fleet.Reconcile)
	assert.Equal(t, 100, u.Fleet.Page)
	assert.Equal(t, 2048, u.Fleet.LineMax)
	assert.Equal(t, "/_coreos.com/fleet", u.Fleet.Prefix)
	assert.Equal(t, "http://localhost:2379", u.Fleet.API)
	assert.Empty(t, u.Fleet.Metadata)
	assert.Empty(t, s.Remarks)
}

func TestWhereOthersReachThisMachine(t *testing.T) {
	for line, want := range map[string]string{
		"": "http://localhost:2379",
		"--listen-client-urls=unix:///run/k.sock,http://10.0.0.1:2379 --proxy=on --insecure":               "http://10.0.0.1:2379",
		"--listen-client-urls=http://0.0.0.0:2379 --advertise-client-urls=http://10.0.0.1:2379 --insecure": "http://10.0.0.1:2379",
		"--listen-client-urls=unix:///run/k.sock --proxy=on":                                               "",
	} {
		assert.Equal(t, want, parse(t, line).Units.Fleet.API, line)
	}
}

func TestEveryKeyOfFleetIsKnown(t *testing.T) {
	for key := range strings.FieldsSeq(`verbosity etcd_servers etcd_username etcd_password etcd_cafile etcd_certfile etcd_keyfile
		etcd_key_prefix etcd_request_timeout engine_reconcile_interval public_ip metadata agent_ttl token_limit units_directory
		systemd_user disable_engine disable_watches enable_grpc verify_units authorized_keys_file`) {
		assert.True(t, IsVariable("FLEET_"+strings.ToUpper(key)), key)
	}
}

const fleetConf = `# a machine
[not a section]
public_ip="10.0.0.1"
metadata = "disk=ssd, region = us-east,disk=hdd"
agent_ttl=45s
engine-reconcile-interval=0.5
etcd_servers=["http://127.0.0.1:2379"]
nonsense=1
verbosity=1
`

func TestFleetConfig(t *testing.T) {
	s, err := Parse(Source{
		Args: []string{"--agent-ttl", "1m"}, Environ: []string{"FLEET_PUBLIC_IP=10.0.0.2", "FLEET_BOGUS=1"},
		ReadFile: oneFile(DefaultFleetConfig, fleetConf),
	})
	require.NoError(t, err)
	f := s.Units.Fleet
	assert.Equal(t, "10.0.0.2", f.PublicIP, "the environment wins")
	assert.Equal(t, time.Minute, f.TTL, "so does a flag")
	assert.Equal(t, map[string]string{"disk": "hdd", "region": "us-east"}, f.Metadata)
	assert.Equal(t, 500*time.Millisecond, f.Reconcile)
	assert.Equal(t, "debug", s.LogLevel)
	assert.Equal(t, []string{
		"/etc/fleet/fleet.conf: line 8: nonsense is ignored: no option of that name",
		"/etc/fleet/fleet.conf: line 7: etcd_servers has no effect: the store is in this process",
		"FLEET_BOGUS is ignored: no option of that name",
	}, s.Remarks)

	s, err = Parse(Source{Args: []string{"--fleet-config=other"}, ReadFile: oneFile("other", "metadata=a=b")})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"a": "b"}, s.Units.Fleet.Metadata)
}

func TestUnitRefusals(t *testing.T) {
	for _, c := range []struct{ line, file, text string }{
		{"--units=docker", "", "--units=docker: want auto or systemd"},
		{"--metadata=region", "", `--metadata=region: "region": want key=value`},
		{"--metadata=a/b=c", "", `a key is letters`},
		{"--metadata=a=\xff", "", "want text in UTF-8"},
		{"--public-ip=999.1.1.1", "", "want an address, such as 10.0.0.1"},
		{"", "public_ip=10.0.0.1 10.0.0.2", "/etc/fleet/fleet.conf: line 1: public_ip=10.0.0.1 10.0.0.2: want an address"},
		{"--agent-ttl=0", "", "--agent-ttl=0: want a time from 1s to 1h0m0s"},
		{"--agent-ttl=soon", "", "want a time"},
		{"--capacity=memory=lots", "", `--capacity=memory=lots`},
		{"--token-limit=0", "", "want a number from 1 to 65535"},
		{"--unit-line-max=9999999", "", "want a number from 80 to 1048576"},
		{"--etcd-key-prefix=/", "", "want a key below the root"},
		{"--fleet-config=none", "", "--fleet-config=none:"},
		{"", "just words", "/etc/fleet/fleet.conf: line 1: just words: want key=value"},
		{"", "\nagent_ttl=0", "/etc/fleet/fleet.conf: line 2: agent_ttl=0: want a time"},
	} {
		t.Run(c.line+c.file, func(t *testing.T) {
			_, err := Parse(Source{Args: strings.Fields(c.line), ReadFile: oneFile(DefaultFleetConfig, c.file)})
			require.ErrorContains(t, err, c.text)
		})
	}
	s, err := Parse(Source{Args: []string{"--capacity=memory=2G cpu=500m"}})
	require.NoError(t, err)
	assert.Equal(t, []unit.Quantity{{Name: "cpu", Amount: 500}, {Name: "memory", Amount: 2 << 30}}, s.Units.Fleet.Capacity)
}

func FuzzFleetConfig(f *testing.F) {
	f.Add(fleetConf)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(Source{ReadFile: oneFile(DefaultFleetConfig, text)})
		if err == nil {
			assert.NotEmpty(t, s.Units.Fleet.Prefix)
		}
	})
}
