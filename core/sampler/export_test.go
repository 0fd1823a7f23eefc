package sampler

// ConfinedBy is Confined by given contents of /proc/self/cgroup and /proc/self/mountinfo.
var ConfinedBy = confined
