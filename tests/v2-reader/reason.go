package main

// reason is the reason for which an object is refused.
type reason string

const (
	malformed        reason = "Malformed"
	unsupportedSuite reason = "UnsupportedSuite"
	suiteRefused     reason = "SuiteRefused"
	formatRefused    reason = "FormatRefused"
	scopeMismatch    reason = "ScopeMismatch"
	templateChanged  reason = "TemplateChanged"
	revisionInFuture reason = "RevisionInFuture"
	notMade          reason = "NotMade"
	unknownKey       reason = "UnknownKey"
	tampered         reason = "Tampered"
)

func (r reason) Error() string { return string(r) }
