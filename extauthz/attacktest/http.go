package attacktest

// WithoutEditFilter is the one change of a bootstrap that cases ask for.
const WithoutEditFilter = "without edit filter"
