package main

import (
	"bytes"
	"encoding/json"
)

// policy contains the requirements of a reader beyond the format.
type policy struct {
	RequireV2          bool    `json:"requireV2"`
	RequireBound       bool    `json:"requireBound"`
	RequirePostQuantum bool    `json:"requirePostQuantum"`
	MaxLocks           *int    `json:"maxLocks"`
	HighestRevision    *uint64 `json:"highestRevision"`
}

// request contains all inputs that a check may depend on. They are not secret.
type request struct {
	place       place
	template    json.RawMessage
	hasData     bool
	policy      policy
	makesSecret bool
	keys        []key
}

// check is one step of section 5.6.
type check func(object, request) error

// checks are the steps 2 to 10, each of them public.
var checks = []check{suites, postQuantum, format, places, templates, revisions, target, keys}

// suites: every lock has a stanza of a known suite.
func suites(o object, _ request) error {
	for _, l := range o.locks {
		if !hasStanza(l, stanza.known) {
			return unsupportedSuite
		}
	}
	return nil
}

func hasStanza(l *lock, matches func(stanza) bool) bool {
	for _, s := range l.stanzas {
		if matches(s) {
			return true
		}
	}
	return false
}

// postQuantum: no classical stanza where the lock or the policy excludes it.
func postQuantum(o object, r request) error {
	if r.policy.RequirePostQuantum && (len(o.v1) > 0 || r.hasData) {
		return suiteRefused
	}
	for _, l := range o.locks {
		required := r.policy.RequirePostQuantum || l.header.flags&flagPostQuantum != 0
		if required && hasStanza(l, func(s stanza) bool { return classical(s.suite) }) {
			return suiteRefused
		}
	}
	return nil
}

// format: what else an object with v2 items may contain, and the number of locks.
func format(o object, r request) error {
	bound, v1 := countLocks(o, flagTemplate), len(o.v1) > 0
	limit := 256
	if r.policy.MaxLocks != nil {
		limit = *r.policy.MaxLocks
	}
	switch {
	case len(o.locks) > limit,
		o.v2 && r.hasData,
		bound > 0 && v1,
		countLocks(o, flagAlone) > 0 && (v1 || len(o.locks) > 1),
		r.policy.RequireBound && (v1 || r.hasData || bound < len(o.locks)),
		r.policy.RequireV2 && (v1 || r.hasData || len(o.items) == 0),
		r.policy.RequireV2 && bound > 0 && bound < len(o.locks):
		return formatRefused
	}
	return nil
}

// countLocks counts the locks with a flag.
func countLocks(o object, flag byte) int {
	n := 0
	for _, l := range o.locks {
		if l.header.flags&flag != 0 {
			n++
		}
	}
	return n
}

// places: scope and place of every lock are those of the object. An object without locks needs no place.
func places(o object, r request) error {
	if len(o.locks) == 0 {
		return nil
	}
	scope, ctx, err := r.place.context()
	if err != nil {
		return err
	}
	for _, l := range o.locks {
		if l.header.scope != scope || !bytes.Equal(l.header.place, placeOf(ctx)) {
			return scopeMismatch
		}
	}
	return nil
}

// templates: the digest of every bound lock is that of the object.
func templates(o object, r request) error {
	if countLocks(o, flagTemplate) == 0 {
		return nil
	}
	want, err := templateDigest(r.template)
	if err != nil {
		return err
	}
	for _, l := range o.locks {
		if l.header.template != nil && !bytes.Equal(l.header.template, want) {
			return templateChanged
		}
	}
	return nil
}

// revisions: no revision is above the highest that the policy accepts.
func revisions(o object, r request) error {
	if r.policy.HighestRevision == nil {
		return nil
	}
	for _, l := range o.locks {
		if l.header.revision > *r.policy.HighestRevision {
			return revisionInFuture
		}
	}
	return nil
}

// target: no Secret object is created from values that must not be in one.
func target(o object, r request) error {
	if r.makesSecret && countLocks(o, flagNeverSecret) > 0 {
		return notMade
	}
	return nil
}

// keys: every lock has a stanza for a key of the reader.
func keys(o object, r request) error {
	for _, l := range o.locks {
		if len(candidates(l, r.keys)) == 0 {
			return unknownKey
		}
	}
	return nil
}
