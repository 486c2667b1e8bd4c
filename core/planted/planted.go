// Package planted names the bugs that the simulator must be able to find.
//
// Each bug is a change of behaviour at one place of the code, guarded by
// On(bug). Without the build tag "planted" On is the constant false and the
// compiler removes the branch, so that no release carries any of them. The
// mutation run builds with the tag and switches one on at a time.
package planted

// Bug is one planted bug. The numbers are stable: reports and docs cite them.
type Bug int

// The bugs, each with the oracle that must find it. See docs/mutation.md.
const (
	None                Bug = 0
	AckBeforeSync       Bug = 1  // append response leaves before the sync: durability
	VoteNotPersisted    Bug = 2  // two leaders in a term
	TermNotPersisted    Bug = 3  // two leaders in a term
	SyncErrorIgnored    Bug = 4  // durability
	TailCutTooFar       Bug = 5  // a synced record dropped behind a bad one: durability
	RenameNotSynced     Bug = 6  // snapshot swap done before its directory: restart
	TruncateEarly       Bug = 7  // log cut before the snapshot is durable: restart
	ReadWithoutQuorum   Bug = 8  // linearizability
	RetryUnsafe         Bug = 10 // client retries what may have happened: linearizability
	CASOffByOne         Bug = 11 // linearizability
	MapOrderLeaks       Bug = 12 // state hash
	WatchLosesEdge      Bug = 13 // event at the edge of history: watch loss
	WatchRepeats        Bug = 14 // resumed on a lagging member: watch order
	WatchDropsSilently  Bug = 15 // slow watcher's buffer: watch loss
	TTLByWallClock      Bug = 16 // TTL early
	RefreshLosesTTL     Bug = 17 // TTL late
	LockWithoutIndex    Bug = 24 // holders over max
	LateEngineWrites    Bug = 18 // decisions of a deposed engine are taken: unique decision, placement
	LostLeaseKeepsRun   Bug = 19 // a singleton is not stopped when the machine's lease runs out: overlap
	LeftOverIgnored     Bug = 20 // a unit that lay there before the start is not looked at: strays
	UnknownStartMoved   Bug = 21 // an unknown outcome of a start lets go of the unit while it may run: overlap
	ConflictsByOwnView  Bug = 22 // decisions of one batch do not see each other: placement
	RemovedStillVotes   Bug = 30 // leader completeness
	RetryWithoutBackoff Bug = 32 // resource bound
	StalledLeaderStays  Bug = 33 // liveness
	PeerQueueUnbounded  Bug = 34 // memory bound

	PromoteWithoutCatchingUp Bug = 41 // an empty learner votes: promotion without the log
	RemovedNotTold           Bug = 43 // a removed member that comes back is let alone: removed members stop
	WipedMemberAccepted      Bug = 40 // founder without its log votes again: durability
	ProxyResendsWrite        Bug = 42 // proxy sends a write again whose outcome is unknown: linearizability
	MirrorSkipsGap           Bug = 49 // a feed begins at the present, not where the mirror was: mirror
	DivergenceIgnored        Bug = 45 // states are compared and nobody looks: named and healed
	StopWhenStoreAway        Bug = 50 // the agent stops its units when the store is away: no healthy unit stopped
	RestartRestartsUnits     Bug = 51 // the daemon's start stops and starts what runs: no healthy unit stopped
	AuthWatchLeaks           Bug = 46 // watch shows a key that its reader may not read any more: access
)
