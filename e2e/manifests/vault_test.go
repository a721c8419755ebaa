package manifests

import (
	"reflect"
	"testing"

	"k8s.io/kubernetes/pkg/apis/batch"
	"k8s.io/kubernetes/pkg/apis/core"
)

// manifests/vault/job.yaml.
const handoverFile = "handover.yaml"

func TestTheApiServersOwnValidationAcceptsTheJob(t *testing.T) {
	found := map[string]int{}
	for _, document := range inOrder(t, handoverFile) {
		named := untyped(t, document)
		found[named.GetKind()]++
		object, err := strictly(document)
		if err != nil {
			t.Errorf("%s/%s: %v", named.GetKind(), named.GetName(), err)
			continue
		}
		if problems := problems(object); len(problems) > 0 {
			t.Errorf("%s/%s: %v", named.GetKind(), named.GetName(), problems.ToAggregate())
		}
	}
	if !reflect.DeepEqual(found, map[string]int{"Job": 1, "ConfigMap": 1}) {
		t.Errorf("it holds %v", found)
	}
}

// It runs as the account that `init` made, gets that account's token only where it is mounted on purpose, and one for Vault
// that nobody else takes.
func TestTheJobIsTheAccountThatInitMade(t *testing.T) {
	object, err := strictly(documents(t, handoverFile)["Job/regent-handover-prod"])
	if err != nil {
		t.Fatal(err)
	}
	job := object.(*batch.Job)
	account := untyped(t, documents(t, authorityFile)["ServiceAccount/regent-handover-prod"])
	pod := job.Spec.Template.Spec
	if pod.ServiceAccountName != account.GetName() || job.Namespace != account.GetNamespace() {
		t.Errorf("it runs as %s/%s", job.Namespace, pod.ServiceAccountName)
	}
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		t.Error("a token is mounted by itself")
	}
	audiences := []string{}
	mounted := map[string]core.VolumeMount{}
	for _, mount := range pod.Containers[0].VolumeMounts {
		mounted[mount.Name] = mount
	}
	for _, volume := range pod.Volumes {
		if mount, ok := mounted[volume.Name]; !ok || (!mount.ReadOnly && volume.EmptyDir == nil) {
			t.Errorf("%s is not mounted, or for writing", volume.Name)
		}
		if volume.Projected == nil {
			continue
		}
		for _, source := range volume.Projected.Sources {
			if source.ServiceAccountToken != nil {
				audiences = append(audiences, source.ServiceAccountToken.Audience)
			}
		}
	}
	if !reflect.DeepEqual(audiences, []string{"https://vault.vault.svc:8200", ""}) {
		t.Errorf("tokens for %q", audiences)
	}
}
