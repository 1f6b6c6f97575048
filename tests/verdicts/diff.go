package main

import (
	"context"
	"os"

	"github.com/argoproj/argo-cd/gitops-engine/pkg/diff"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/utils/kube"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/utils/kube/scheme"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/utils/tracing"
	"github.com/argoproj/argo-cd/v3/util/argo/managedfields"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2/textlogger"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

// manager is the name under which Argo CD applies objects.
const manager = "argocd-controller"

// difference contains the object that a method expects and the object in the cluster.
type difference struct {
	Method   string `json:"method"`
	Expected string `json:"expected"`
	Live     string `json:"live"`
}

func cluster() (*kube.KubectlCmd, *rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	logger := textlogger.NewLogger(textlogger.NewConfig())
	return &kube.KubectlCmd{Log: logger, Tracer: tracing.NopTracer{}}, config, err
}

func apply(object *unstructured.Unstructured) error {
	kubectl, config, err := cluster()
	if err != nil {
		return err
	}
	resources, cleanup, err := kubectl.ManageResources(config)
	if err != nil {
		return err
	}
	defer cleanup()
	_, err = resources.ApplyResource(context.Background(), object, cmdutil.DryRunNone, false, true, true, manager)
	return err
}

func differences(target *unstructured.Unstructured, managers []string) ([]difference, error) {
	kubectl, config, err := cluster()
	if err != nil {
		return nil, err
	}
	dryRuns, cleanup, err := kubectl.ManageServerSideDiffDryRuns(config)
	if err != nil {
		return nil, err
	}
	defer cleanup()
	_, parser, err := kubectl.LoadOpenAPISchema(config)
	if err != nil {
		return nil, err
	}
	kind := target.GroupVersionKind()
	live, err := kubectl.GetResource(context.Background(), config, kind, target.GetName(), target.GetNamespace())
	if err != nil {
		return nil, err
	}
	if len(managers) > 0 {
		live, target, err = managedfields.Normalize(live, target, managers, scheme.ResolveParseableType(kind, parser))
		if err != nil {
			return nil, err
		}
	}
	methods := map[string]diff.Option{
		"three-way":        diff.WithServerSideDiff(false),
		"structured merge": diff.WithStructuredMergeDiff(true),
		"server-side":      diff.WithServerSideDiff(true),
	}
	found := []difference{}
	for method, option := range methods {
		result, err := diff.Diff(target.DeepCopy(), live.DeepCopy(), option, diff.WithGVKParser(parser),
			diff.WithManager(manager), diff.WithServerSideDryRunner(diff.NewK8sServerSideDryRunner(dryRuns)))
		if err != nil {
			return nil, err
		}
		if result.Modified {
			found = append(found, difference{method, string(result.PredictedLive), string(result.NormalizedLive)})
		}
	}
	return found, nil
}
