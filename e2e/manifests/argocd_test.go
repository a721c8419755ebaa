package manifests

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/argoproj/argo-cd/v3/util/tgzstream"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/kubernetes/pkg/apis/apps"
	"k8s.io/kubernetes/pkg/apis/core"
)

func repoServer(t *testing.T, file string) *apps.Deployment {
	return decoded[*apps.Deployment](t, file, "Deployment/argocd-repo-server")
}

func sidecar(t *testing.T) core.Container {
	t.Helper()
	containers := repoServer(t, regentFile).Spec.Template.Spec.Containers
	at := slices.IndexFunc(containers, func(container core.Container) bool { return container.Name == "regent" })
	if at < 0 {
		t.Fatal("repo-server has no container `regent`")
	}
	return containers[at]
}

func TestNothingElseOfTheStockInstallChanges(t *testing.T) {
	stock, with := documents(t, stockFile), documents(t, regentFile)
	var added, changed []string
	for id := range with {
		if _, there := stock[id]; !there {
			added = append(added, id)
		} else if !bytes.Equal(stock[id], with[id]) {
			changed = append(changed, id)
		}
	}
	for id := range stock {
		if with[id] == nil {
			t.Errorf("%s is gone", id)
		}
	}
	slices.Sort(added)
	slices.Sort(changed)
	if want := []string{
		"ConfigMap/regent", "NetworkPolicy/regent-redis", "NetworkPolicy/regent-repo-server",
		"ValidatingAdmissionPolicy/regent-hydrator", "ValidatingAdmissionPolicyBinding/regent-hydrator",
	}; !slices.Equal(added, want) {
		t.Errorf("added: %v", added)
	}
	if want := []string{"ConfigMap/argocd-cmd-params-cm", "Deployment/argocd-repo-server"}; !slices.Equal(changed, want) {
		t.Errorf("changed: %v", changed)
	}
}

func TestRepoServerIsTheStockOneWithOneContainerMore(t *testing.T) {
	stock, with := repoServer(t, stockFile), repoServer(t, regentFile)
	pod := &with.Spec.Template.Spec
	last := len(pod.Containers) - 1
	if pod.Containers[last].Name != "regent" || last == 0 {
		t.Fatal("`regent` is not the last of several containers")
	}
	pod.Containers = pod.Containers[:last]
	pod.Volumes = slices.DeleteFunc(pod.Volumes, func(volume core.Volume) bool { return strings.HasPrefix(volume.Name, "regent-") })
	if pod.TerminationGracePeriodSeconds == nil || *pod.TerminationGracePeriodSeconds != 70 {
		t.Error("a request of 60 s is cut off")
	}
	pod.TerminationGracePeriodSeconds = stock.Spec.Template.Spec.TerminationGracePeriodSeconds
	if !reflect.DeepEqual(stock, with) {
		t.Error("repo-server differs in more than regent's container, its volumes and the grace period")
	}
}

func TestTheParametersAreTheStockOnesWithOneKeyMore(t *testing.T) {
	stock := decoded[*core.ConfigMap](t, stockFile, "ConfigMap/argocd-cmd-params-cm")
	with := decoded[*core.ConfigMap](t, regentFile, "ConfigMap/argocd-cmd-params-cm")
	delete(with.Data, exclusionsKey)
	if !reflect.DeepEqual(stock, with) {
		t.Error("argocd-cmd-params-cm differs in more than one key")
	}
}

func TestTheSidecarCanDoNothingButServe(t *testing.T) {
	context := sidecar(t).SecurityContext
	no, yes := false, true
	want := &core.SecurityContext{
		RunAsUser: pointer(int64(999)), RunAsGroup: pointer(int64(999)), RunAsNonRoot: &yes,
		ReadOnlyRootFilesystem: &yes, AllowPrivilegeEscalation: &no,
		Capabilities:   &core.Capabilities{Drop: []core.Capability{"ALL"}},
		SeccompProfile: &core.SeccompProfile{Type: core.SeccompProfileTypeRuntimeDefault},
	}
	if !reflect.DeepEqual(context, want) {
		t.Errorf("%+v", context)
	}
}

// The account with which regent asks who rules: as every client of Kubernetes looks for it, renewed, and no other
// container's.
func TestTheSidecarAloneHasAnAccount(t *testing.T) {
	pod := repoServer(t, regentFile).Spec.Template.Spec
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		t.Error("every container gets a token")
	}
	tokens := map[string]bool{}
	for _, volume := range pod.Volumes {
		if volume.Projected == nil {
			continue
		}
		for _, source := range volume.Projected.Sources {
			if source.ServiceAccountToken == nil {
				continue
			}
			tokens[volume.Name] = true
			// Without an audience it is the API server's own.
			if token := source.ServiceAccountToken; token.Path != "token" || *token.ExpirationSeconds != 3600 || token.Audience != "" {
				t.Errorf("%s: %+v", volume.Name, token)
			}
		}
	}
	if !reflect.DeepEqual(tokens, map[string]bool{"regent-account": true}) {
		t.Fatalf("volumes with a token: %v", tokens)
	}
	at := slices.IndexFunc(pod.Volumes, func(volume core.Volume) bool { return volume.Name == "regent-account" })
	account := pod.Volumes[at].Projected
	// The files belong to root, and no `fsGroup` gives them away.
	if account.DefaultMode == nil || *account.DefaultMode != 0o444 {
		t.Errorf("uid 999 cannot read it: %v", account.DefaultMode)
	}
	beside := []core.VolumeProjection{
		{ConfigMap: &core.ConfigMapProjection{
			LocalObjectReference: core.LocalObjectReference{Name: "kube-root-ca.crt"},
			Items:                []core.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
		}},
		{DownwardAPI: &core.DownwardAPIProjection{Items: []core.DownwardAPIVolumeFile{{
			Path: "namespace", FieldRef: &core.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"},
		}}}},
	}
	if !reflect.DeepEqual(account.Sources[1:], beside) {
		t.Errorf("beside the token: %+v", account.Sources[1:])
	}
	for _, container := range append(slices.Clone(pod.Containers), pod.InitContainers...) {
		for _, mount := range container.VolumeMounts {
			if tokens[mount.Name] && container.Name != "regent" {
				t.Errorf("%s has the account too", container.Name)
			}
		}
	}
}

// The chart's values were run by nobody: at least they are the component's.
func TestTheValuesAreTheComponentsContainerAndVolumes(t *testing.T) {
	values := untyped(t, input(t, "values.yaml")).Object["repoServer"].(map[string]any)
	pod := untyped(t, documents(t, regentFile)["Deployment/argocd-repo-server"]).Object
	for _, step := range []string{"spec", "template", "spec"} {
		pod = pod[step].(map[string]any)
	}
	ours := func(list any) (found []any) {
		for _, one := range list.([]any) {
			if strings.HasPrefix(one.(map[string]any)["name"].(string), "regent") {
				found = append(found, one)
			}
		}
		return found
	}
	for _, same := range [][2]any{
		{values["extraContainers"], any(ours(pod["containers"]))}, {values["volumes"], any(ours(pod["volumes"]))},
		{values["terminationGracePeriodSeconds"], pod["terminationGracePeriodSeconds"]},
	} {
		if !reflect.DeepEqual(same[0], same[1]) {
			t.Errorf("the values have\n%v\nand the component\n%v", same[0], same[1])
		}
	}
}

func TestTheImageIsTheUsersOwn(t *testing.T) {
	if image := sidecar(t).Image; image != "registry.example/platform/regent:0.1.0" {
		t.Errorf("`images:` did not reach %s", image)
	}
}

// A missing Secret or ConfigMap that is not optional keeps the pod from starting.
func TestNeitherKeysNorConfigurationCanKeepRepoServerFromStarting(t *testing.T) {
	ours := 0
	for _, volume := range repoServer(t, regentFile).Spec.Template.Spec.Volumes {
		if !strings.HasPrefix(volume.Name, "regent-") {
			continue
		}
		ours++
		switch {
		case volume.Secret != nil && volume.Secret.Optional != nil && *volume.Secret.Optional:
			// Owned by root, read by uid 999 of no group of root's.
			if *volume.Secret.DefaultMode&0o004 == 0 {
				t.Errorf("uid 999 cannot read %s", volume.Name)
			}
		case volume.ConfigMap != nil && volume.ConfigMap.Optional != nil && *volume.ConfigMap.Optional:
		case volume.Name == "regent-account":
			// Kubernetes itself keeps kube-root-ca.crt in every namespace.
		default:
			t.Errorf("%s is not optional", volume.Name)
		}
	}
	if ours != 3 {
		t.Errorf("%d volumes", ours)
	}
}

func TestOnlyTheSidecarHasTheKeysAndItsMountsChangeWhileItRuns(t *testing.T) {
	pod := repoServer(t, regentFile).Spec.Template.Spec
	for _, container := range append(slices.Clone(pod.Containers), pod.InitContainers...) {
		for _, mount := range container.VolumeMounts {
			if strings.HasPrefix(mount.Name, "regent-") && container.Name != "regent" {
				t.Errorf("%s mounts %s", container.Name, mount.Name)
			}
		}
	}
	at := map[string]string{}
	for _, mount := range sidecar(t).VolumeMounts {
		at[mount.Name] = mount.MountPath
		if mount.SubPath != "" || mount.SubPathExpr != "" {
			t.Errorf("%s is a subPath", mount.Name)
		}
		if readOnly := mount.Name != "plugins"; mount.ReadOnly != readOnly {
			t.Errorf("%s: readOnly %v", mount.Name, mount.ReadOnly)
		}
	}
	theirs := ""
	for _, mount := range pod.Containers[0].VolumeMounts {
		if mount.Name == "plugins" {
			theirs = mount.MountPath
		}
	}
	if want := map[string]string{
		"plugins": theirs, "regent-config": "/etc/regent", "regent-keys-prod": "/var/run/regent/keys/prod",
		"regent-account": "/var/run/secrets/kubernetes.io/serviceaccount",
	}; !reflect.DeepEqual(at, want) {
		t.Errorf("mounted at %v", at)
	}
}

// What the page and the comments promise of probes and memory.
func TestProbesAskTheSidecarAloneAndMemoryFitsTheLimits(t *testing.T) {
	container := sidecar(t)
	for name, probe := range map[string]*core.Probe{
		"startup": container.StartupProbe, "readiness": container.ReadinessProbe, "liveness": container.LivenessProbe,
	} {
		if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Port.StrVal != "regent-http" {
			t.Errorf("%s does not ask regent", name)
		}
	}
	if container.Ports[0].ContainerPort != 8087 || !slices.Contains(container.Args, "0.0.0.0:8087") {
		t.Error("the port is another one than --listen names")
	}
	if _, limited := container.Resources.Limits[core.ResourceCPU]; limited {
		t.Error("the CPU is limited")
	}
	if container.Resources.Limits.Memory().Cmp(resource.MustParse("512Mi")) != 0 {
		t.Error("the page counts with 512Mi")
	}
}

func TestNoSecretStandsInTheOutput(t *testing.T) {
	stock := documents(t, stockFile)
	for id := range documents(t, regentFile) {
		if strings.HasPrefix(id, "Secret/") && stock[id] == nil {
			t.Errorf("%s", id)
		}
	}
	for _, mark := range []string{"AGE-SECRET-KEY-", "PRIVATE KEY"} {
		if bytes.Contains(input(t, regentFile), []byte(mark)) && !bytes.Contains(input(t, stockFile), []byte(mark)) {
			t.Errorf("%s", mark)
		}
	}
}

const exclusionsKey = "reposerver.plugin.tar.exclusions"

// Argo CD's own code packs a repository as repo-server does.
func TestTheArchiveLosesGitAndNoManifest(t *testing.T) {
	exclusions := strings.Split(decoded[*core.ConfigMap](t, regentFile, "ConfigMap/argocd-cmd-params-cm").Data[exclusionsKey], ";")
	files := []string{
		".git/HEAD", ".git/objects/ab/cd", ".gitignore", "regent.yaml", "clusters/prod/regent.yaml", "clusters/prod/app/db.yaml",
	}
	repository := t.TempDir()
	for _, file := range files {
		path := repository + "/" + file
		if err := os.MkdirAll(path[:strings.LastIndex(path, "/")], 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(file), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	archive, _, _, err := tgzstream.CompressFiles(repository, nil, exclusions)
	if err != nil {
		t.Fatal(err)
	}
	defer tgzstream.CloseAndDelete(archive)
	if got := regularFiles(t, archive); !slices.Equal(got, []string{
		".gitignore", "clusters/prod/app/db.yaml", "clusters/prod/regent.yaml", "regent.yaml",
	}) {
		t.Errorf("sent: %v", got)
	}
}

func regularFiles(t *testing.T, archive io.Reader) []string {
	t.Helper()
	unzipped, err := gzip.NewReader(archive)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for reader := tar.NewReader(unzipped); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			slices.Sort(names)
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Typeflag == tar.TypeReg {
			names = append(names, header.Name)
		}
	}
}

func pointer[T any](value T) *T { return &value }
