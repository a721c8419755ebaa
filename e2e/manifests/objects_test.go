// What manifests/argocd makes of Argo CD's install, and what manifests/cluster and manifests/flux are, read as the API server
// reads it: strictly, with its defaults, and held against its own validation. hack/manifests builds the inputs and runs these tests.
package manifests

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsinstall "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	apiextensionsvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/admissionregistration"
	_ "k8s.io/kubernetes/pkg/apis/admissionregistration/install"
	admissionvalidation "k8s.io/kubernetes/pkg/apis/admissionregistration/validation"
	"k8s.io/kubernetes/pkg/apis/apps"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/batch"
	_ "k8s.io/kubernetes/pkg/apis/batch/install"
	batchvalidation "k8s.io/kubernetes/pkg/apis/batch/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/networking"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	networkvalidation "k8s.io/kubernetes/pkg/apis/networking/validation"
	disruption "k8s.io/kubernetes/pkg/apis/policy"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
	disruptionvalidation "k8s.io/kubernetes/pkg/apis/policy/validation"
	"k8s.io/kubernetes/pkg/apis/rbac"
	_ "k8s.io/kubernetes/pkg/apis/rbac/install"
	rbacvalidation "k8s.io/kubernetes/pkg/apis/rbac/validation"
	yamlv3 "sigs.k8s.io/yaml"
)

const (
	// Argo CD's install as it is, built with the namespace alone.
	stockFile = "stock.yaml"
	// manifests/argocd/example over the same install.
	regentFile = "regent.yaml"
)

// input is a file that hack/manifests prepared; a test without inputs fails.
func input(t *testing.T, name string) []byte {
	t.Helper()
	folder := os.Getenv("MANIFESTS")
	if folder == "" {
		t.Fatal("MANIFESTS names no folder: run hack/manifests")
	}
	bytes, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

// documents are the objects of a YAML file, by kind and name.
func documents(t *testing.T, name string) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	for _, document := range inOrder(t, name) {
		object := untyped(t, document)
		id := object.GetKind() + "/" + object.GetName()
		if found[id] != nil {
			t.Fatalf("%s: %s stands there twice", name, id)
		}
		found[id] = document
	}
	return found
}

// inOrder are the objects of a YAML file.
func inOrder(t *testing.T, name string) (found [][]byte) {
	t.Helper()
	reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(input(t, name))))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		// A file may begin with comments.
		if len(untyped(t, document).Object) > 0 {
			found = append(found, document)
		}
	}
}

func untyped(t *testing.T, document []byte) *unstructured.Unstructured {
	t.Helper()
	object := &unstructured.Unstructured{}
	if err := yamlv3.UnmarshalStrict(document, &object.Object); err != nil {
		t.Fatal(err)
	}
	return object
}

// strictly decodes a document as an API server does that was asked for fieldValidation=Strict: an unknown or a twofold
// field is an error, and defaults are filled in.
func strictly(document []byte) (runtime.Object, error) {
	return runtime.Decode(strict, document)
}

var strict = func() runtime.Decoder {
	apiextensionsinstall.Install(legacyscheme.Scheme)
	return serializer.NewCodecFactory(legacyscheme.Scheme, serializer.EnableStrict).UniversalDecoder()
}()

func decoded[T any](t *testing.T, file, id string) T {
	t.Helper()
	document, there := documents(t, file)[id]
	if !there {
		t.Fatalf("%s has no %s", file, id)
	}
	object, err := strictly(document)
	if err != nil {
		t.Fatal(err)
	}
	return object.(T)
}

func TestEveryObjectIsOneThatKubernetesKnows(t *testing.T) {
	for id, document := range documents(t, regentFile) {
		if _, err := strictly(document); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// The decoder has to refuse what it is there to refuse.
func TestAnUnknownFieldIsRefused(t *testing.T) {
	deployment := documents(t, regentFile)["Deployment/argocd-repo-server"]
	for what, broken := range map[string]string{
		"unknown field": strings.Replace(string(deployment), "readOnlyRootFilesystem:", "readOnlyRootFileSystem:", 1),
		"twofold field": strings.Replace(string(deployment), "kind: Deployment", "kind: Deployment\nkind: Deployment", 1),
	} {
		if _, err := strictly([]byte(broken)); err == nil {
			t.Errorf("%s was let through", what)
		}
	}
}

func TestTheApiServersOwnValidationAcceptsEveryObjectThatIsNotStock(t *testing.T) {
	stock := documents(t, stockFile)
	checked := 0
	for id, document := range documents(t, regentFile) {
		if bytes.Equal(document, stock[id]) {
			continue
		}
		object, err := strictly(document)
		if err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		checked++
		if problems := problems(object); len(problems) > 0 {
			t.Errorf("%s: %v", id, problems.ToAggregate())
		}
	}
	// Deployment, two ConfigMaps, two NetworkPolicies, the policy and its binding.
	if checked != 7 {
		t.Errorf("%d objects are not stock, expected 7", checked)
	}
}

func problems(object runtime.Object) field.ErrorList {
	switch object := object.(type) {
	case *apps.Deployment:
		return appsvalidation.ValidateDeployment(object, corevalidation.PodValidationOptions{})
	case *apps.StatefulSet:
		return appsvalidation.ValidateStatefulSet(object, appsvalidation.StatefulSetValidationOptions{}, corevalidation.PodValidationOptions{})
	case *disruption.PodDisruptionBudget:
		return disruptionvalidation.ValidatePodDisruptionBudget(object, disruptionvalidation.PodDisruptionBudgetValidationOptions{})
	case *batch.Job:
		// The API server itself adds a selector to a new Job, by its uid.
		manual := true
		object.Spec.ManualSelector, object.Spec.Selector = &manual, &metav1.LabelSelector{MatchLabels: object.Spec.Template.Labels}
		return batchvalidation.ValidateJobCreate(object, batchvalidation.JobValidationOptions{})
	case *batch.CronJob:
		return batchvalidation.ValidateCronJobCreate(object, corevalidation.PodValidationOptions{})
	case *core.ConfigMap:
		return corevalidation.ValidateConfigMap(object)
	case *core.Namespace:
		return corevalidation.ValidateNamespace(object)
	case *core.Service:
		// The API server itself gives it an address.
		if object.Spec.ClusterIP == "" {
			object.Spec.ClusterIP = "10.96.0.1"
		}
		object.Spec.ClusterIPs = []string{object.Spec.ClusterIP}
		single := core.IPFamilyPolicySingleStack
		object.Spec.IPFamilyPolicy, object.Spec.IPFamilies = &single, []core.IPFamily{core.IPv4Protocol}
		return corevalidation.ValidateServiceCreate(object)
	case *core.ServiceAccount:
		return corevalidation.ValidateServiceAccount(object)
	case *rbac.Role:
		return rbacvalidation.ValidateRole(object)
	case *rbac.RoleBinding:
		return rbacvalidation.ValidateRoleBinding(object)
	case *rbac.ClusterRole:
		return rbacvalidation.ValidateClusterRole(object, rbacvalidation.ClusterRoleValidationOptions{})
	case *rbac.ClusterRoleBinding:
		return rbacvalidation.ValidateClusterRoleBinding(object)
	case *apiextensions.CustomResourceDefinition:
		return apiextensionsvalidation.ValidateCustomResourceDefinition(context.Background(), object)
	case *networking.NetworkPolicy:
		return networkvalidation.ValidateNetworkPolicy(object, networkvalidation.NetworkPolicyValidationOptions{})
	case *admissionregistration.ValidatingAdmissionPolicy:
		return admissionvalidation.ValidateValidatingAdmissionPolicy(object)
	case *admissionregistration.ValidatingAdmissionPolicyBinding:
		return admissionvalidation.ValidateValidatingAdmissionPolicyBinding(object)
	}
	return field.ErrorList{field.InternalError(nil, errors.New("this test validates no such kind"))}
}
