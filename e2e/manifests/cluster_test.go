package manifests

import (
	"reflect"
	"testing"

	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/apis/rbac"
)

const (
	// manifests/cluster, built.
	clusterFile = "cluster.yaml"
	// What `init` makes for the authority `prod`.
	authorityFile = "authority.yaml"
	// The policies that are files of the API server.
	staticFile = "static-policies.yaml"
)

func TestTheApiServersOwnValidationAcceptsTheAuthorityAndItsRules(t *testing.T) {
	for file, kinds := range map[string]map[string]int{
		clusterFile: {
			"Namespace": 1, "CustomResourceDefinition": 1, "ClusterRole": 2, "ClusterRoleBinding": 1, "Role": 2 + 1, "RoleBinding": 1,
			"ValidatingAdmissionPolicy": 5, "ValidatingAdmissionPolicyBinding": 5,
		},
		authorityFile: {
			"ServiceAccount": 2, "ClusterRole": 3, "ClusterRoleBinding": 3, "Role": 3, "RoleBinding": 3,
			"ValidatingAdmissionPolicy": 1, "ValidatingAdmissionPolicyBinding": 1,
		},
		staticFile: {"ValidatingAdmissionPolicy": 1, "ValidatingAdmissionPolicyBinding": 1},
	} {
		found := map[string]int{}
		for _, document := range inOrder(t, file) {
			named := untyped(t, document)
			found[named.GetKind()]++
			object, err := strictly(document)
			if err != nil {
				t.Errorf("%s: %s/%s: %v", file, named.GetKind(), named.GetName(), err)
				continue
			}
			if problems := problems(object); len(problems) > 0 {
				t.Errorf("%s: %s/%s: %v", file, named.GetKind(), named.GetName(), problems.ToAggregate())
			}
		}
		if !reflect.DeepEqual(found, kinds) {
			t.Errorf("%s holds %v", file, found)
		}
	}
}

// A file that leaves a repository, an Application that is deleted and a chart that is uninstalled take nothing along.
func TestNothingOfTheAuthorityIsPruned(t *testing.T) {
	for _, file := range []string{clusterFile, authorityFile} {
		for _, document := range inOrder(t, file) {
			object := untyped(t, document)
			for name, value := range map[string]string{
				"argocd.argoproj.io/sync-options": "Prune=false,Delete=false", "kustomize.toolkit.fluxcd.io/prune": "disabled",
				"helm.sh/resource-policy": "keep",
			} {
				if got := object.GetAnnotations()[name]; got != value {
					t.Errorf("%s: %s/%s: %s is %q", file, object.GetKind(), object.GetName(), name, got)
				}
			}
		}
	}
}

// The account that `init` gives the right to read is that of the pod in which the sidecar runs.
func TestTheReaderIsTheAccountOfTheSidecar(t *testing.T) {
	account := repoServer(t, regentFile).Spec.Template.Spec.ServiceAccountName
	want := []rbac.Subject{{Kind: "ServiceAccount", Name: account, Namespace: "argocd"}}
	readers := 0
	for _, document := range inOrder(t, authorityFile) {
		object, err := strictly(document)
		if err != nil {
			t.Fatal(err)
		}
		switch object := object.(type) {
		case *rbac.ClusterRoleBinding:
			if object.Name == "regent-reader-prod" {
				readers++
				if !reflect.DeepEqual(object.Subjects, want) {
					t.Errorf("%+v", object.Subjects)
				}
			}
		case *rbac.RoleBinding:
			if object.Name == "regent-reader-prod" {
				readers++
				if !reflect.DeepEqual(object.Subjects, want) {
					t.Errorf("%+v", object.Subjects)
				}
			}
		case *core.ServiceAccount:
			if object.AutomountServiceAccountToken == nil || *object.AutomountServiceAccountToken {
				t.Errorf("whatever runs as %s gets its token", object.Name)
			}
		}
	}
	if readers != 2 {
		t.Errorf("%d bindings of the reader", readers)
	}
}
