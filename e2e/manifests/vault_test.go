package manifests

import (
	"reflect"
	"testing"

	"k8s.io/kubernetes/pkg/apis/batch"
	"k8s.io/kubernetes/pkg/apis/core"
)

const (
	// manifests/vault/job.yaml.
	handoverFile = "handover.yaml"
	// manifests/vault/cronjob.yaml.
	verifyFile = "verify.yaml"
	// manifests/vault/in-cluster.yaml.
	personFile = "in-cluster.yaml"
)

func TestTheApiServersOwnValidationAcceptsTheJobs(t *testing.T) {
	for file, kind := range map[string]string{handoverFile: "Job", verifyFile: "CronJob"} {
		if found := accepted(t, file); !reflect.DeepEqual(found, map[string]int{kind: 1, "ConfigMap": 1}) {
			t.Errorf("%s holds %v", file, found)
		}
	}
}

func TestTheApiServersOwnValidationAcceptsTheRightsOfAPerson(t *testing.T) {
	if found := accepted(t, personFile); !reflect.DeepEqual(found, map[string]int{"Role": 1, "ClusterRole": 1}) {
		t.Errorf("it holds %v", found)
	}
}

// accepted are the kinds of a file's objects, each of them valid.
func accepted(t *testing.T, file string) map[string]int {
	found := map[string]int{}
	for _, document := range inOrder(t, file) {
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
	return found
}

// Each runs as the account that `init` made, gets that account's token only where it is mounted on purpose, and one for Vault
// that nobody else takes.
func TestTheJobsAreTheAccountsThatInitMade(t *testing.T) {
	object, err := strictly(documents(t, handoverFile)["Job/regent-handover-prod"])
	if err != nil {
		t.Fatal(err)
	}
	job := object.(*batch.Job)
	isAccount(t, "regent-handover-prod", job.Namespace, job.Spec.Template.Spec)
	object, err = strictly(documents(t, verifyFile)["CronJob/regent-verify-prod"])
	if err != nil {
		t.Fatal(err)
	}
	cron := object.(*batch.CronJob)
	pod := cron.Spec.JobTemplate.Spec.Template.Spec
	isAccount(t, "regent-verify-prod", cron.Namespace, pod)
	container := pod.Containers[0]
	if !*container.SecurityContext.ReadOnlyRootFilesystem || *container.SecurityContext.AllowPrivilegeEscalation || !*pod.SecurityContext.RunAsNonRoot {
		t.Error("it may do more than it needs")
	}
}

func isAccount(t *testing.T, name, namespace string, pod core.PodSpec) {
	t.Helper()
	account := untyped(t, documents(t, authorityFile)["ServiceAccount/"+name])
	if pod.ServiceAccountName != account.GetName() || namespace != account.GetNamespace() {
		t.Errorf("it runs as %s/%s", namespace, pod.ServiceAccountName)
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
