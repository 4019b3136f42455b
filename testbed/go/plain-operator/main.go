// A plain operator as controller-runtime has it: what a reviewer entered is released and said so, with nothing decided.
//
// It writes what a template tells: the release of the Job, and the status, as countersign's benchmark copied them from one request.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

var request = schema.GroupVersionKind{Group: "countersign.dev", Version: "v1alpha1", Kind: "ApprovalRequest"}

type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

type template struct {
	// Release is a JSON Patch of the Job; Status one of the status of the request.
	Release []operation `json:"release"`
	Status  []operation `json:"status"`
}

type reconciler struct {
	client.Client
	template template
}

func (r *reconciler) Reconcile(ctx context.Context, at ctrl.Request) (ctrl.Result, error) {
	asked := &unstructured.Unstructured{}
	asked.SetGroupVersionKind(request)
	if err := r.Get(ctx, at.NamespacedName, asked); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	state, _, _ := unstructured.NestedString(asked.Object, "status", "state")
	digest, _, _ := unstructured.NestedString(asked.Object, "status", "digest")
	reviews, _, _ := unstructured.NestedSlice(asked.Object, "spec", "reviews")
	name, _, _ := unstructured.NestedString(asked.Object, "spec", "target", "name")
	if state != "Pending" || len(reviews) == 0 || name == "" {
		return ctrl.Result{}, nil
	}
	job := &batchv1.Job{}
	if err := r.Get(ctx, types.NamespacedName{Namespace: at.Namespace, Name: name}, job); err != nil {
		return ctrl.Result{}, err
	}
	if job.Spec.Suspend != nil && *job.Spec.Suspend {
		if err := r.Patch(ctx, job, patch(r.template.Release, job.ResourceVersion, "")); err != nil {
			return ctrl.Result{}, err
		}
	}
	return ctrl.Result{}, r.Status().Patch(ctx, asked, patch(r.template.Status, asked.GetResourceVersion(), digest))
}

// patch fills in what differs from object to object.
func patch(template []operation, version, digest string) client.Patch {
	operations := make([]operation, 0, len(template))
	for _, op := range template {
		switch value := op.Value.(type) {
		case map[string]any:
			if op.Path == "/status" {
				status := make(map[string]any, len(value))
				for key, part := range value {
					status[key] = part
				}
				status["digest"] = digest
				op.Value = status
			}
		case string:
			if op.Path == "/metadata/resourceVersion" {
				op.Value = version
			}
		}
		operations = append(operations, op)
	}
	text, err := json.Marshal(operations)
	if err != nil {
		// Made of JSON, it is JSON.
		panic(err)
	}
	return client.RawPatch(types.JSONPatchType, text)
}

func run(kubeconfig, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	r := &reconciler{}
	if err := json.Unmarshal(text, &r.template); err != nil {
		return err
	}
	access, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	// The default of 20 a second would hide everything else.
	access.QPS, access.Burst = 1000, 1000
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return err
	}
	log.SetLogger(zap.New())
	manager, err := ctrl.NewManager(access, ctrl.Options{
		Scheme:     scheme,
		Metrics:    metricsserver.Options{BindAddress: "0"},
		Client:     client.Options{Cache: &client.CacheOptions{Unstructured: true}},
		Controller: config.Controller{MaxConcurrentReconciles: 32},
	})
	if err != nil {
		return err
	}
	r.Client = manager.GetClient()
	asked := &unstructured.Unstructured{}
	asked.SetGroupVersionKind(request)
	build := ctrl.NewControllerManagedBy(manager).For(asked).Named("approvals").WithOptions(controller.Options{})
	if err := build.Complete(r); err != nil {
		return err
	}
	// The cache of Jobs fills before the first of them is asked for.
	if _, err := manager.GetCache().GetInformer(context.Background(), &batchv1.Job{}); err != nil {
		return err
	}
	go func() {
		<-manager.Elected()
		if manager.GetCache().WaitForCacheSync(context.Background()) {
			fmt.Println("ready")
		}
	}()
	return manager.Start(ctrl.SetupSignalHandler())
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: plain-operator KUBECONFIG TEMPLATE")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
