package manifests

import (
	"bytes"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/kubernetes/pkg/apis/admissionregistration"
	"k8s.io/kubernetes/pkg/apis/apps"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/apis/networking"
	"k8s.io/kubernetes/pkg/apis/rbac"
	yamlv3 "sigs.k8s.io/yaml"
)

const (
	// manifests/flux/example, built.
	fluxFile = "flux.yaml"
	// kustomize-controller as its own repository deploys it, with the NetworkPolicy of Flux's install, and that with
	// manifests/flux/controller.
	fluxStockFile, fluxControllerFile = "flux-stock.yaml", "flux-controller.yaml"
	// manifests/flux/example with manifests/flux/without-artifacts over it.
	fluxWithoutArtifactsFile = "flux-without-artifacts.yaml"
	// manifests/flux/kustomizations.
	fluxKustomizationsFile = "flux-kustomizations.yaml"
)

// fluxConfig is the RegentConfig of the example, as far as other files have to say the same.
type fluxConfig struct {
	Rules []struct{ Identities []string }
	Flux  struct {
		Endpoint, Artifacts, Namespace string
		Applications                   []struct {
			Kustomization, Artifact, TokenSecret string
			ServiceAccount                       bool
			Source                               struct{ GitRepository string }
		}
	}
}

func fluxConfiguration(t *testing.T) (config fluxConfig) {
	t.Helper()
	if err := yamlv3.Unmarshal([]byte(decoded[*core.ConfigMap](t, fluxFile, "ConfigMap/regent").Data["regent.yaml"]), &config); err != nil {
		t.Fatal(err)
	}
	if len(config.Flux.Applications) == 0 || len(config.Rules) == 0 {
		t.Fatal("the example configures nothing")
	}
	return config
}

func regentPod(t *testing.T) core.PodSpec {
	return decoded[*apps.StatefulSet](t, fluxFile, "StatefulSet/regent").Spec.Template.Spec
}

func TestTheApiServersOwnValidationAcceptsFluxsRegent(t *testing.T) {
	if found := accepted(t, fluxFile); !reflect.DeepEqual(found, map[string]int{
		"ServiceAccount": 1, "ConfigMap": 1, "StatefulSet": 1, "Service": 2, "PodDisruptionBudget": 1, "NetworkPolicy": 1, "ClusterRole": 1,
		"ClusterRoleBinding": 1, "Role": 3, "RoleBinding": 3, "ValidatingAdmissionPolicy": 4, "ValidatingAdmissionPolicyBinding": 4,
	}) {
		t.Errorf("it holds %v", found)
	}
	accepted(t, fluxControllerFile)
}

// Where regent goes, four Kustomizations that wait for it stop kustomize-controller.
func TestNothingOfFluxsRegentIsPrunedButItsConfiguration(t *testing.T) {
	for id, document := range documents(t, fluxFile) {
		if kept := untyped(t, document).GetAnnotations()["kustomize.toolkit.fluxcd.io/prune"] == "disabled"; !kept && id != "ConfigMap/regent" {
			t.Error(id)
		}
	}
}

// The component allows the example's Kustomization its own repository, and takes away what regent needs to publish. Nothing else of
// the example changes.
func TestWithoutArtifactsTheKustomizationIsAllowedItsRepositoryByName(t *testing.T) {
	with, without := documents(t, fluxFile), documents(t, fluxWithoutArtifactsFile)
	accepted(t, fluxWithoutArtifactsFile)
	var changed []string
	for id, document := range without {
		if !bytes.Equal(document, with[id]) {
			changed = append(changed, id)
		}
	}
	slices.Sort(changed)
	if wanted := []string{"Role/regent", "ValidatingAdmissionPolicy/regent-flux-source"}; !slices.Equal(changed, wanted) || len(with) != len(without) {
		t.Fatalf("%v changed", changed)
	}
	for _, rule := range rulesOf(t, without["Role/regent"]) {
		if slices.Contains(rule.APIGroups, "source.toolkit.fluxcd.io") {
			t.Errorf("it may still %v", rule)
		}
	}
	application := fluxConfiguration(t).Flux.Applications[0]
	policy := decoded[*admissionregistration.ValidatingAdmissionPolicy](t, fluxWithoutArtifactsFile, "ValidatingAdmissionPolicy/regent-flux-source")
	wanted := "{'" + application.Kustomization + "': '" + application.Source.GitRepository + "'}"
	if variable := policy.Spec.Variables[3]; variable.Name != "repositories" || variable.Expression != wanted {
		t.Errorf("%s: %s", variable.Name, variable.Expression)
	}
}

// An empty list of names is every object. Two things have no name that could be limited: an Event and a review.
func TestEveryRightOfFluxsRegentIsByName(t *testing.T) {
	unlimited := sets.New("events", "tokenreviews")
	seen := 0
	for id, document := range documents(t, fluxFile) {
		if !strings.HasPrefix(id, "Role/") && !strings.HasPrefix(id, "ClusterRole/") {
			continue
		}
		for _, rule := range rulesOf(t, document) {
			seen++
			if unlimited.HasAll(rule.Resources...) {
				if !slices.Equal(rule.Verbs, []string{"create"}) {
					t.Errorf("%s: %v", id, rule)
				}
			} else if len(rule.ResourceNames) == 0 {
				t.Errorf("%s: every one of %v", id, rule.Resources)
			}
			if slices.Contains(rule.Resources, "secrets") && !slices.Equal(rule.Verbs, []string{"create", "patch"}) {
				t.Errorf("%s: %v of a Secret", id, rule.Verbs)
			}
			if allowed := sets.New("get", "watch", "create", "update", "patch"); !allowed.HasAll(rule.Verbs...) {
				t.Errorf("%s: %v", id, rule.Verbs)
			}
		}
	}
	if seen != 8 {
		t.Errorf("%d rules", seen)
	}
}

func rulesOf(t *testing.T, document []byte) []rbac.PolicyRule {
	t.Helper()
	object, err := strictly(document)
	if err != nil {
		t.Fatal(err)
	}
	switch object := object.(type) {
	case *rbac.Role:
		return object.Rules
	case *rbac.ClusterRole:
		return object.Rules
	}
	t.Fatalf("no role: %T", object)
	return nil
}

// The names of the configuration stand a second time in the roles.
func TestTheRolesNameWhatTheConfigurationNames(t *testing.T) {
	wanted, granted := sets.New[string](), sets.New[string]()
	for _, application := range fluxConfiguration(t).Flux.Applications {
		namespace, name, _ := strings.Cut(application.Kustomization, "/")
		artifact := application.Artifact
		if artifact == "" {
			artifact = name
		}
		wanted.Insert(namespace+" kustomizations "+name, namespace+" externalartifacts "+artifact, namespace+" externalartifacts/status "+artifact)
		if !application.ServiceAccount {
			wanted.Insert(namespace + " secrets " + application.TokenSecret)
		}
		if namespace, name, there := strings.Cut(application.Source.GitRepository, "/"); there {
			wanted.Insert(namespace + " gitrepositories " + name)
		}
	}
	for id, document := range documents(t, fluxFile) {
		if !strings.HasPrefix(id, "Role/") {
			continue
		}
		for _, rule := range rulesOf(t, document) {
			for _, resource := range rule.Resources {
				for _, name := range rule.ResourceNames {
					if resource != "leases" {
						granted.Insert(untyped(t, document).GetNamespace() + " " + resource + " " + name)
					}
				}
			}
		}
	}
	if !wanted.Equal(granted) {
		t.Errorf("configured %v, granted %v", sets.List(wanted), sets.List(granted))
	}
}

// So do those of the policies, and the account that they let write.
func TestTheFluxPoliciesNameWhatTheConfigurationNames(t *testing.T) {
	tokens, namespaces, artifacts := sets.New[string](), sets.New[string](), []string{}
	for _, application := range fluxConfiguration(t).Flux.Applications {
		namespace, name, _ := strings.Cut(application.Kustomization, "/")
		if application.ServiceAccount {
			namespaces.Insert("'" + namespace + "'")
		} else {
			tokens.Insert("'" + application.TokenSecret + "'")
		}
		if application.Artifact != "" && application.Artifact != name {
			artifacts = append(artifacts, "'"+application.Kustomization+"': '"+application.Artifact+"'")
		}
	}
	list := func(of sets.Set[string]) string { return "[" + strings.Join(sets.List(of), ", ") + "]" }
	for policy, want := range map[string][]string{
		"regent-flux-source": {list(tokens), list(namespaces), "{" + strings.Join(artifacts, ", ") + "}"}, "regent-flux-tokens": {list(tokens)},
	} {
		said := decoded[*admissionregistration.ValidatingAdmissionPolicy](t, fluxFile, "ValidatingAdmissionPolicy/"+policy).Spec.Variables
		for at, expression := range want {
			if said[at].Expression != expression {
				t.Errorf("%s: variable %d is %s, expected %s", policy, at, said[at].Expression, expression)
			}
		}
	}
	account := "'system:serviceaccount:" + fluxConfiguration(t).Flux.Namespace + ":" + regentPod(t).ServiceAccountName + "'"
	for _, policy := range []string{"regent-flux-artifacts", "regent-flux-tokens"} {
		conditions := decoded[*admissionregistration.ValidatingAdmissionPolicy](t, fluxFile, "ValidatingAdmissionPolicy/"+policy).Spec.MatchConditions
		if !slices.ContainsFunc(conditions, func(condition admissionregistration.MatchCondition) bool {
			return condition.Expression == "request.userInfo.username != "+account
		}) {
			t.Errorf("%s lets another one write than %s", policy, account)
		}
	}
}

// What kustomize-controller is told is where a Service leads to regent's own ports.
func TestTheAddressesOfTheConfigurationLeadToTheEndpointAndTheArtifacts(t *testing.T) {
	config, service := fluxConfiguration(t).Flux, decoded[*core.Service](t, fluxFile, "Service/regent")
	host := service.Name + "." + service.Namespace + ".svc"
	container := regentPod(t).Containers[0]
	for address, told := range map[string]struct{ scheme, port, flag string }{
		config.Endpoint:  {"https", "endpoint", "--endpoint-listen=0.0.0.0:"},
		config.Artifacts: {"http", "artifacts", "--artifacts-listen=0.0.0.0:"},
	} {
		at := slices.IndexFunc(service.Spec.Ports, func(port core.ServicePort) bool {
			return address == told.scheme+"://"+host+":"+itoa(port.Port)
		})
		if at < 0 {
			t.Errorf("%s is no port of the Service %s", address, host)
			continue
		}
		target := service.Spec.Ports[at].TargetPort.StrVal
		at = slices.IndexFunc(container.Ports, func(port core.ContainerPort) bool { return port.Name == target && target == told.port })
		if at < 0 || !slices.Contains(container.Args, told.flag+itoa(container.Ports[at].ContainerPort)) {
			t.Errorf("%s does not lead to %s", address, told.flag)
		}
	}
	set := decoded[*apps.StatefulSet](t, fluxFile, "StatefulSet/regent")
	for _, id := range []string{"Service/regent", "Service/regent-metrics"} {
		if !labels.SelectorFromSet(decoded[*core.Service](t, fluxFile, id).Spec.Selector).Matches(labels.Set(set.Spec.Template.Labels)) {
			t.Errorf("%s selects no pod of regent", id)
		}
	}
}

func itoa(port int32) string { return strconv.Itoa(int(port)) }

func TestFluxsRegentCanDoNothingButServe(t *testing.T) {
	pod := regentPod(t)
	container := pod.Containers[0]
	no, yes := false, true
	if want := (&core.SecurityContext{
		ReadOnlyRootFilesystem: &yes, AllowPrivilegeEscalation: &no, Capabilities: &core.Capabilities{Drop: []core.Capability{"ALL"}},
	}); !reflect.DeepEqual(container.SecurityContext, want) {
		t.Errorf("%+v", container.SecurityContext)
	}
	if context := pod.SecurityContext; context.RunAsNonRoot == nil || !*context.RunAsNonRoot || *context.RunAsUser == 0 ||
		context.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault || *context.FSGroup != *context.RunAsGroup {
		t.Errorf("%+v", context)
	}
	writable := []string{}
	for _, mount := range container.VolumeMounts {
		if mount.SubPath != "" || mount.SubPathExpr != "" {
			t.Errorf("%s never changes again", mount.Name)
		}
		if !mount.ReadOnly {
			writable = append(writable, mount.MountPath)
		}
	}
	if !slices.Equal(writable, []string{"/var/lib/regent"}) || !slices.Contains(container.Args, "--data=/var/lib/regent") {
		t.Errorf("it writes to %v", writable)
	}
	for _, rule := range fluxConfiguration(t).Rules {
		for _, identity := range rule.Identities {
			if !slices.ContainsFunc(container.VolumeMounts, func(mount core.VolumeMount) bool { return mount.MountPath == identity }) {
				t.Errorf("%s is not mounted", identity)
			}
		}
	}
}

// Once Vault rules the keys are taken away, and its artifacts are served for ever.
func TestFluxsRegentStartsWithoutItsKeys(t *testing.T) {
	keys := 0
	for _, volume := range regentPod(t).Volumes {
		if volume.Secret != nil && strings.HasPrefix(volume.Secret.SecretName, "regent-keys-") {
			keys++
			if volume.Secret.Optional == nil || !*volume.Secret.Optional {
				t.Errorf("it does not start without %s", volume.Secret.SecretName)
			}
		}
	}
	if keys != 1 {
		t.Errorf("%d Secrets with keys", keys)
	}
}

func TestTheFluxComponentChangesTheControllerInWhatItSays(t *testing.T) {
	const controller = "Deployment/kustomize-controller"
	stock, with := decoded[*apps.Deployment](t, fluxStockFile, controller), decoded[*apps.Deployment](t, fluxControllerFile, controller)
	pod := &with.Spec.Template.Spec
	container := &pod.Containers[0]
	ours := []string{"--feature-gates=ExternalArtifact=true,CancelHealthCheckOnNewRevision=true", "--http-retry=2"}
	first := len(container.Args) - len(ours)
	if first < 0 || !slices.Equal(container.Args[first:], ours) {
		t.Fatalf("the last arguments are %v", container.Args)
	}
	container.Args = container.Args[:first]
	mounted, trusted := "", ""
	container.VolumeMounts = slices.DeleteFunc(container.VolumeMounts, func(mount core.VolumeMount) bool {
		if mount.Name == "regent-ca" {
			mounted = mount.MountPath
		}
		return mount.Name == "regent-ca"
	})
	pod.Volumes = slices.DeleteFunc(pod.Volumes, func(volume core.Volume) bool {
		ours := volume.Name == "regent-ca"
		if ours && (volume.ConfigMap == nil || volume.ConfigMap.Optional == nil || !*volume.ConfigMap.Optional) {
			t.Error("without the CA kustomize-controller does not start")
		}
		return ours
	})
	container.Env = slices.DeleteFunc(container.Env, func(one core.EnvVar) bool {
		switch one.Name {
		case "VAULT_CACERT":
			trusted = one.Value
		case "SOPS_HC_VAULT_ALLOWLIST":
			// kustomize-controller compares with the address and a slash, so that no longer host begins with it.
			if want := fluxConfiguration(t).Flux.Endpoint + "/"; one.Value != want {
				t.Errorf("tokens go to %s, not to %s", one.Value, want)
			}
		case "VAULT_CLIENT_TIMEOUT":
			// Its library takes a number for seconds.
			if seconds, err := strconv.Atoi(one.Value); err != nil || seconds <= 10 {
				t.Errorf("regent answers within 10 s, and the controller waits for %q", one.Value)
			}
		default:
			return false
		}
		return true
	})
	if mounted == "" || trusted != mounted+"/ca.crt" {
		t.Errorf("it trusts %s, and %s is mounted", trusted, mounted)
	}
	if !reflect.DeepEqual(stock, with) {
		t.Error("kustomize-controller differs in more than two arguments, three variables and a mount")
	}
	for id, document := range documents(t, fluxStockFile) {
		if id != controller && id != "NetworkPolicy/allow-egress" && !bytes.Equal(document, documents(t, fluxControllerFile)[id]) {
			t.Errorf("%s changes", id)
		}
	}
}

// knock is a connection from one pod to another of Flux's namespace, or of another one.
type knock struct {
	from, to labels.Set
	stranger bool
	port     int32
}

func TestOnlyKustomizeControllerReachesTheEndpointOfRegent(t *testing.T) {
	regent := labels.Set(decoded[*apps.StatefulSet](t, fluxFile, "StatefulSet/regent").Spec.Template.Labels)
	ours := decoded[*networking.NetworkPolicy](t, fluxFile, "NetworkPolicy/regent")
	stock := decoded[*networking.NetworkPolicy](t, fluxStockFile, "NetworkPolicy/allow-egress")
	narrowed := decoded[*networking.NetworkPolicy](t, fluxControllerFile, "NetworkPolicy/allow-egress")
	app := func(name string) labels.Set { return labels.Set{"app": name} }
	for _, row := range []struct {
		knock
		want bool
	}{
		{knock{from: app("kustomize-controller"), to: regent, port: 8200}, true},
		{knock{from: app("kustomize-controller"), to: regent, port: 9790}, true},
		{knock{from: app("helm-controller"), to: regent, port: 8200}, false},
		{knock{from: app("kustomize-controller"), to: regent, port: 8200, stranger: true}, false},
		{knock{from: app("prometheus"), to: regent, port: 8087, stranger: true}, true},
		{knock{from: app("prometheus"), to: regent, port: 9790, stranger: true}, false},
		{knock{from: regent, to: app("source-controller"), port: 9090}, true},
		{knock{from: regent, to: app("kustomize-controller"), port: 9440}, false},
		{knock{from: app("helm-controller"), to: app("source-controller"), port: 9090}, true},
	} {
		for name, policies := range map[string][]*networking.NetworkPolicy{"with Flux's": {ours, narrowed}, "alone": {ours}} {
			if got := row.passes(policies); got != row.want {
				t.Errorf("%s: %v to %v: %v", name, row.from, row.to, got)
			}
		}
	}
	// Which is what the component is for.
	if !(knock{from: app("helm-controller"), to: regent, port: 8200}).passes([]*networking.NetworkPolicy{ours, stock}) {
		t.Error("Flux's own policy is another one than this test takes it for")
	}
}

// passes tells whether the policies of the namespace let it out and in.
func (knock knock) passes(policies []*networking.NetworkPolicy) bool {
	out, in, leaves, enters := false, false, knock.stranger, false
	for _, policy := range policies {
		if !knock.stranger && matches(policy.Spec.PodSelector, knock.from) && slices.Contains(policy.Spec.PolicyTypes, networking.PolicyTypeEgress) {
			out = true
			for _, rule := range policy.Spec.Egress {
				leaves = leaves || (knock.at(rule.Ports) && knock.is(rule.To, knock.to, false))
			}
		}
		if matches(policy.Spec.PodSelector, knock.to) && slices.Contains(policy.Spec.PolicyTypes, networking.PolicyTypeIngress) {
			in = true
			for _, rule := range policy.Spec.Ingress {
				enters = enters || (knock.at(rule.Ports) && knock.is(rule.From, knock.from, knock.stranger))
			}
		}
	}
	return (leaves || !out) && (enters || !in)
}

func (knock knock) at(ports []networking.NetworkPolicyPort) bool {
	return len(ports) == 0 || slices.ContainsFunc(ports, func(port networking.NetworkPolicyPort) bool {
		return *port.Protocol == core.ProtocolTCP && port.Port.IntVal == knock.port
	})
}

func (knock knock) is(peers []networking.NetworkPolicyPeer, pod labels.Set, stranger bool) bool {
	return len(peers) == 0 || slices.ContainsFunc(peers, func(peer networking.NetworkPolicyPeer) bool {
		// The only selector of namespaces here is the empty one: all of them.
		return (peer.NamespaceSelector != nil || !stranger) && (peer.PodSelector == nil || matches(*peer.PodSelector, pod))
	})
}

// Otherwise a broken regent could not be repaired.
func TestRegentsOwnKustomizationNeedsNoRegent(t *testing.T) {
	spec := untyped(t, documents(t, fluxKustomizationsFile)["Kustomization/regent"]).Object["spec"].(map[string]any)
	for _, field := range []string{"decryption", "dependsOn", "postBuild"} {
		if spec[field] != nil {
			t.Errorf("it has %s", field)
		}
	}
	if kind := spec["sourceRef"].(map[string]any)["kind"]; kind != "GitRepository" {
		t.Errorf("it comes from %v", kind)
	}
	for id := range documents(t, fluxFile) {
		if strings.HasPrefix(id, "Secret/") || strings.HasPrefix(id, "ExternalArtifact/") {
			t.Errorf("%s would have to be encrypted, or is regent's to make", id)
		}
	}
}

// What a person changes in the second commit of the migration is what the page shows.
func TestTheMigrationChangesSourceAndKeyAlone(t *testing.T) {
	of := func(file string) map[string]any {
		return untyped(t, input(t, file)).Object["spec"].(map[string]any)
	}
	before, after := of("app-before.yaml"), of("app.yaml")
	if !reflect.DeepEqual(after["sourceRef"], map[string]any{"kind": "ExternalArtifact", "name": "app"}) ||
		!reflect.DeepEqual(after["decryption"], map[string]any{"provider": "sops", "secretRef": map[string]any{"name": "regent-token"}}) {
		t.Errorf("%v", after)
	}
	for _, field := range []string{"sourceRef", "decryption"} {
		delete(before, field)
		delete(after, field)
	}
	if !reflect.DeepEqual(before, after) {
		t.Error("more than that changes")
	}
}
