package chaos

// unitsLoad is the name of the workload that has machines run units.
const unitsLoad = "units"
