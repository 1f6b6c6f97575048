package main

import (
	"context"
	"net"
	"os"
	"strings"

	"google.golang.org/grpc"
	"k8s.io/klog/v2"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// registrationSocket is in the directory where the kubelet looks for plugins.
const registrationSocket = "/var/lib/kubelet/plugins_registry/" + driverName + "-reg.sock"

// registrar tells the kubelet where the socket of the driver is, as the program node-driver-registrar does.
type registrar struct{}

func (registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type:              registration.CSIPlugin,
		Name:              driverName,
		Endpoint:          strings.TrimPrefix(*endpoint, "unix://"),
		SupportedVersions: []string{"1.0.0"},
	}, nil
}

func (registrar) NotifyRegistrationStatus(_ context.Context, status *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if !status.PluginRegistered {
		klog.Fatalf("the kubelet does not register the driver: %s", status.Error)
	}
	return &registration.RegistrationStatusResponse{}, nil
}

func register(ctx context.Context) {
	_ = os.Remove(registrationSocket)
	listener, err := net.Listen("unix", registrationSocket)
	if err != nil {
		klog.Fatal(err)
	}
	server := grpc.NewServer()
	registration.RegisterRegistrationServer(server, registrar{})
	go func() {
		<-ctx.Done()
		server.Stop()
	}()
	if err := server.Serve(listener); err != nil {
		klog.Fatal(err)
	}
}
