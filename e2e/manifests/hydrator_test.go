package manifests

import (
	"context"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	kubeschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/yaml"
)

var (
	application  = kubeschema.GroupVersionKind{Group: "argoproj.io", Version: "v1alpha1", Kind: "Application"}
	applications = application.GroupVersion().WithResource("applications")
)

// policy is the policy as it is shipped, in the API server's own types.
func policy(t *testing.T) (*admissionv1.ValidatingAdmissionPolicy, *admissionv1.ValidatingAdmissionPolicyBinding) {
	t.Helper()
	shipped := documents(t, regentFile)
	policy, binding := &admissionv1.ValidatingAdmissionPolicy{}, &admissionv1.ValidatingAdmissionPolicyBinding{}
	for id, into := range map[string]any{
		"ValidatingAdmissionPolicy/regent-hydrator": policy, "ValidatingAdmissionPolicyBinding/regent-hydrator": binding,
	} {
		if err := yaml.UnmarshalStrict(shipped[id], into); err != nil {
			t.Fatal(err)
		}
	}
	return policy, binding
}

// apiServer is the admission plugin that an API server runs, with this policy and nothing else.
func apiServer(t *testing.T) *validating.Plugin {
	t.Helper()
	policy, binding := policy(t)
	// What the API server fills in.
	equivalent, fail := admissionv1.Equivalent, admissionv1.Fail
	if policy.Spec.MatchConstraints.MatchPolicy == nil || *policy.Spec.MatchConstraints.MatchPolicy != equivalent || *policy.Spec.FailurePolicy != fail {
		t.Fatal("the policy leaves to defaults what it should say")
	}
	policy.Spec.MatchConstraints.NamespaceSelector = &metav1.LabelSelector{}
	policy.Spec.MatchConstraints.ObjectSelector = &metav1.LabelSelector{}

	client := fake.NewClientset(policy, binding, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "argocd"}})
	factory := informers.NewSharedInformerFactory(client, 0)
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(application, meta.RESTScopeNamespace)
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })

	plugin, err := validating.NewPlugin(nil)
	if err != nil {
		t.Fatal(err)
	}
	plugin.SetExternalKubeInformerFactory(factory)
	plugin.SetExternalKubeClientSet(client)
	plugin.SetRESTMapper(mapper)
	plugin.SetDynamicClient(dynamicfake.NewSimpleDynamicClient(scheme.Scheme))
	plugin.SetDrainedNotification(stop)
	plugin.SetUnconditionalAuthorizer(authorizerfactory.NewAlwaysAllowAuthorizer())
	if err := plugin.ValidateInitialization(); err != nil {
		t.Fatal(err)
	}
	factory.Start(stop)
	factory.WaitForCacheSync(stop)
	if !plugin.WaitForReady() {
		t.Fatal("the admission plugin does not get ready")
	}
	return plugin
}

// asked is the API server's answer to a write of this Application.
func asked(t *testing.T, server *validating.Plugin, object *unstructured.Unstructured, operation admission.Operation) error {
	t.Helper()
	knownToTheCRD(t, object)
	var old runtime.Object
	var options runtime.Object = &metav1.CreateOptions{}
	if operation == admission.Update {
		old, options = object.DeepCopy(), &metav1.UpdateOptions{}
	}
	attributes := admission.NewAttributesRecord(object, old, application, "argocd", object.GetName(), applications, "", operation, options,
		false, &user.DefaultInfo{Name: "system:serviceaccount:argocd:argocd-server"})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return server.Validate(ctx, attributes, admission.NewObjectInterfacesFromScheme(runtime.NewScheme()))
}

// written reads an Application whose `spec` is given.
func written(t *testing.T, spec string) *unstructured.Unstructured {
	t.Helper()
	object := untyped(t, []byte("apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: app, namespace: argocd}\nspec:\n  destination: {namespace: app}\n"))
	part := map[string]any{}
	if err := yaml.UnmarshalStrict([]byte(spec), &part); err != nil {
		t.Fatal(err)
	}
	for key, value := range part {
		object.Object["spec"].(map[string]any)[key] = value
	}
	return object
}

const hydrated = `
project: PROJECT
sourceHydrator:
  drySource: {repoURL: "https://git.example/infra.git", path: clusters/prod, targetRevision: main, SOURCE}
  syncSource: {targetBranch: hydrated, path: prod}
`

func hydratedWith(t *testing.T, project, source string) *unstructured.Unstructured {
	return written(t, strings.NewReplacer("PROJECT", project, ", SOURCE", source).Replace(hydrated))
}

func TestTheHydratorNeverMeetsRegent(t *testing.T) {
	server := apiServer(t)
	plain := `{repoURL: "https://git.example/infra.git", path: clusters/prod, targetRevision: main, plugin: {name: regent-v1}}`
	for _, row := range []struct {
		name   string
		object *unstructured.Unstructured
		// Words of the refusal, empty where the write passes.
		refused string
	}{
		{"this plugin", hydratedWith(t, "other", ", plugin: {name: regent-v1}"), "would commit the values"},
		{"this plugin, spelled as a path", hydratedWith(t, "other", ", plugin: {name: ./regent-v1}"), "would commit the values"},
		{"this plugin, with parameters", hydratedWith(t, "other", ", plugin: {name: regent-v1, env: [{name: A, value: b}]}"), "would commit the values"},
		{"whichever plugin answers", hydratedWith(t, "other", ", plugin: {}"), "would commit the values"},
		{"an empty name", hydratedWith(t, "other", `, plugin: {name: ""}`), "would commit the values"},
		{"a project of regent", hydratedWith(t, "platform", ", directory: {recurse: true}"), "for this project"},
		{"a project of regent, no source type", hydratedWith(t, "platform", ""), "for this project"},
		{"another plugin", hydratedWith(t, "other", ", plugin: {name: cue-v1}"), ""},
		{"another plugin of a like name", hydratedWith(t, "other", ", plugin: {name: regent-v10}"), ""},
		{"no plugin", hydratedWith(t, "other", ", kustomize: {namePrefix: a}"), ""},
		{"the default project", hydratedWith(t, `""`, ""), ""},
		{"no hydrator", written(t, "project: platform\nsource: "+plain), ""},
		{"no hydrator, several sources", written(t, "project: platform\nsources: ["+plain+"]"), ""},
		{"no hydrator, a plugin without a name", written(t, `{project: platform, source: {repoURL: "https://git.example/infra.git", path: a, plugin: {}}}`), ""},
	} {
		for _, operation := range []admission.Operation{admission.Create, admission.Update} {
			err := asked(t, server, row.object, operation)
			switch {
			case row.refused == "" && err != nil:
				t.Errorf("%s, %s: %v", row.name, operation, err)
			case row.refused != "" && (err == nil || !strings.Contains(err.Error(), row.refused)):
				t.Errorf("%s, %s: expected %q, got %v", row.name, operation, row.refused, err)
			}
		}
	}
}

func TestARefusedApplicationCanStillBeDeleted(t *testing.T) {
	going := hydratedWith(t, "platform", ", plugin: {name: regent-v1}")
	now := metav1.Now()
	going.SetDeletionTimestamp(&now)
	if err := asked(t, apiServer(t), going, admission.Update); err != nil {
		t.Error(err)
	}
}

// The policy and regent's configuration are two files that have to say the same.
func TestThePolicyNamesTheProjectsAndThePluginOfTheConfiguration(t *testing.T) {
	var config struct {
		Rules []struct {
			Project string
		}
		ArgoCD struct {
			Name, Version string
		}
	}
	data := untyped(t, documents(t, regentFile)["ConfigMap/regent"]).Object["data"].(map[string]any)
	if err := yaml.Unmarshal([]byte(data["regent.yaml"].(string)), &config); err != nil {
		t.Fatal(err)
	}
	policy, _ := policy(t)
	said := map[string]string{}
	for _, variable := range policy.Spec.Variables {
		said[variable.Name] = variable.Expression
	}
	if len(config.Rules) == 0 {
		t.Error("no rule")
	}
	for _, rule := range config.Rules {
		if !strings.Contains(said["projects"], "'"+rule.Project+"'") {
			t.Errorf("project %s is open to the hydrator", rule.Project)
		}
	}
	if want := "['" + config.ArgoCD.Name + "-" + config.ArgoCD.Version + "']"; said["plugins"] != want {
		t.Errorf("plugins: %s, expected %s", said["plugins"], want)
	}
}

// Argo CD's own CRD knows every field that the policy looks at, with the type that the policy takes it for.
func TestThePolicyFitsArgoCdsApplication(t *testing.T) {
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(application, meta.RESTScopeNamespace)
	checker := validating.TypeChecker{SchemaResolver: crd{t}, RestMapper: mapper}
	policy, _ := policy(t)
	// The checker takes no `*` for a version.
	policy.Spec.MatchConstraints.ResourceRules[0].APIVersions = []string{application.Version}
	for _, warning := range checker.Check(policy) {
		t.Errorf("%s: %s", warning.FieldRef, warning.Warning)
	}
	policy.Spec.Validations[0].Expression = "object.spec.sourceHydrator.dry == ''"
	if len(checker.Check(policy)) == 0 {
		t.Error("a field that does not exist was let through")
	}
}

// crd answers with Argo CD's own schema of Application.
type crd struct{ t *testing.T }

func (crd crd) ResolveSchema(kind kubeschema.GroupVersionKind) (*spec.Schema, error) {
	schema, _ := applicationSchema(crd.t)
	return schema.ToKubeOpenAPI(), nil
}

func applicationSchema(t *testing.T) (*schema.Structural, *apiextensions.CustomResourceValidation) {
	t.Helper()
	definition := decoded[*apiextensions.CustomResourceDefinition](t, stockFile, "CustomResourceDefinition/applications.argoproj.io")
	validation := definition.Spec.Validation
	if validation == nil {
		validation = definition.Spec.Versions[0].Schema
	}
	structural, err := schema.NewStructural(validation.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	return structural, validation
}

// knownToTheCRD fails where an Application has a field that the CRD does not know, or one of another type.
func knownToTheCRD(t *testing.T, object *unstructured.Unstructured) {
	t.Helper()
	structural, whole := applicationSchema(t)
	options := schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	if unknown := pruning.PruneWithOptions(object.DeepCopy().Object, structural, true, options); len(unknown) > 0 {
		t.Errorf("unknown fields: %v", unknown)
	}
	validator, _, err := validation.NewSchemaValidator(whole.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	if problems := validation.ValidateCustomResource(nil, object.Object, validator); len(problems) > 0 {
		t.Error(problems.ToAggregate())
	}
}

func TestTheExampleApplicationIsOneThatArgoCdKnows(t *testing.T) {
	object := untyped(t, input(t, "application.yaml"))
	knownToTheCRD(t, object)
	name, _, _ := unstructured.NestedString(object.Object, "spec", "source", "plugin", "name")
	if name != "regent-v1" {
		t.Errorf("it names the plugin %q", name)
	}
	if err := asked(t, apiServer(t), object, admission.Create); err != nil {
		t.Error(err)
	}
}
