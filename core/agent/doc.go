// Package agent is each machine's controller: units here become what the registry says, and states are reported.
package agent
