// Command csi-driver is the Secrets Store CSI driver for tests, from the packages of its module, with its own
// registration at the kubelet. The original program also has a logging library that the module proxy does not serve,
// and leaves the registration to a sidecar.
//
//	csi-driver --nodeid=NODE --endpoint=unix:///DIRECTORY/csi.sock --provider-volume=DIRECTORY --rotation-poll-interval=1s
package main

import (
	"context"
	"flag"
	"time"

	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	secretsstorev1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"
	"sigs.k8s.io/secrets-store-csi-driver/controllers"
	"sigs.k8s.io/secrets-store-csi-driver/pkg/metrics"
	secretsstore "sigs.k8s.io/secrets-store-csi-driver/pkg/secrets-store"
)

const driverName = "secrets-store.csi.k8s.io"

var (
	endpoint     = flag.String("endpoint", "", "the socket for the kubelet")
	nodeID       = flag.String("nodeid", "", "the name of the node")
	providers    = flag.String("provider-volume", "", "the directory with the sockets of providers")
	pollInterval = flag.Duration("rotation-poll-interval", 2*time.Minute, "the shortest time between two refreshes")
)

func main() {
	klog.InitFlags(nil)
	flag.Parse()
	log.SetLogger(klog.Background())
	if err := run(ctrl.SetupSignalHandler()); err != nil {
		klog.Fatal(err)
	}
}

// run follows the function mainErr of the original program, in its order.
func run(ctx context.Context) error {
	if err := metrics.InitMetricsExporter(); err != nil {
		return err
	}
	manager, err := ctrl.NewManager(ctrl.GetConfigOrDie(), options())
	if err != nil {
		return err
	}
	reconciler, err := controllers.New(driverName, manager, *nodeID)
	if err != nil {
		return err
	}
	if err := reconciler.SetupWithManager(manager); err != nil {
		return err
	}
	maxSize := grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1024 * 1024 * 4))
	clients := secretsstore.NewPluginClientBuilder([]string{*providers}, maxSize)
	defer clients.Cleanup()
	go func() {
		if err := manager.Start(ctx); err != nil {
			klog.Fatal(err)
		}
	}()
	go reconciler.RunPatcher(ctx)
	go register(ctx)
	driver := secretsstore.NewSecretsStoreDriver(driverName, *nodeID, *endpoint, clients,
		manager.GetClient(), manager.GetAPIReader(), true, *pollInterval)
	driver.Run(ctx)
	return nil
}

func options() ctrl.Options {
	scheme := runtime.NewScheme()
	_ = clientgoscheme.AddToScheme(scheme)
	_ = secretsstorev1.AddToScheme(scheme)
	ofNode := fields.OneTermEqualSelector("spec.nodeName", *nodeID)
	labeled := func(name, value string) cache.ByObject {
		return cache.ByObject{Label: labels.SelectorFromSet(labels.Set{name: value})}
	}
	return ctrl.Options{
		Scheme:         scheme,
		Metrics:        metricsserver.Options{BindAddress: "0"},
		MapperProvider: apiutil.NewDynamicRESTMapper,
		Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}: {Field: ofNode},
			&secretsstorev1.SecretProviderClassPodStatus{}: labeled(secretsstorev1.InternalNodeLabel, *nodeID),
			&corev1.Secret{}: labeled(controllers.SecretManagedLabel, "true"),
		}},
	}
}
