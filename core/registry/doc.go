// Package registry shows units, their targets, machines and states as typed keys of the store.
//
// Everything lies under a prefix, /_coreos.com/fleet by default. The first group of keys
// is what the original programs read and write; the second is ours. One kind of writer
// has each key:
//
//	key                            writer      value
//	job/NAME/object                API         {"Name":…,"UnitHash":[20 numbers]}
//	job/NAME/target-state          API         inactive, loaded, launched
//	job/NAME/target                engine      machine ID
//	job/NAME/job-state             agent       machine ID, once it has launched the unit
//	unit/SHA1                      API, engine {"Raw":"[Unit]\n…"}; removed when no unit needs it
//	states/NAME/MACHINE            agent       {"loadState":…,…,"unitHash":…}
//	machines/ID/object             agent       {"ID":…,"PublicIP":…,…}, with a TTL: the machine's lease
//	machines/ID/metadata/KEY       API         dynamic value, "" hides the configured one
//	lease/engine-leader            engine      {"MachineID":…,"Version":1}, with a TTL
//	engine/version                 engine      1
//
//	machines/ID/units/NAME         engine      Assignment: all that the machine needs to know
//	machines/ID/cordon             API         cordoned, draining
//	global/NAME                    engine      Assignment of a global unit, for all machines
//	job/NAME/claim                 agent       machine ID: the fence of a singleton
//	moves/NAME                     API         machine ID: the engine is asked to move the unit there
//
// A machine that is no member copies machines/ID and global, and nothing else: what
// happens to others does not wake it. States have no TTL: those of a machine whose lease
// has run out count for nothing, and the engine removes them.
package registry
