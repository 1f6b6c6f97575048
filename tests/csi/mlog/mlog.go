// Package mlog replaces the logging module of the CSI driver with the few functions that the driver calls.
package mlog

import "k8s.io/klog/v2"

// Fatal logs an error and ends the process.
func Fatal(err error) {
	klog.Fatal(err)
}
