package manifests

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/argoproj/argo-cd/gitops-engine/v3/pkg/health"
	"github.com/argoproj/argo-cd/v3/pkg/apis/application/v1alpha1"
	"github.com/argoproj/argo-cd/v3/util/lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// What Argo CD makes of the health check that manifests/after gives it.
func TestArgoCDReadsTheHealthOfAVaultStaticSecret(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "manifests", "after", "argocd-cm.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var settings struct{ Data map[string]string }
	if err := yaml.Unmarshal(text, &settings); err != nil {
		t.Fatal(err)
	}
	script := settings.Data["resource.customizations.health.secrets.hashicorp.com_VaultStaticSecret"]
	key := "secrets.hashicorp.com/VaultStaticSecret"
	overrides := lua.ResourceHealthOverrides(map[string]v1alpha1.ResourceOverride{key: {HealthLua: script}})
	for name, one := range map[string]struct {
		status string
		want   health.HealthStatusCode
	}{
		"new":                   {`{}`, health.HealthStatusProgressing},
		"delivered":             {`{lastGeneration: 2}`, health.HealthStatusHealthy},
		"changed since":         {`{lastGeneration: 1}`, health.HealthStatusProgressing},
		"ready":                 {`{lastGeneration: 2, conditions: [{type: Synced, status: "False"}, {type: Ready, status: "True"}]}`, health.HealthStatusHealthy},
		"not ready":             {`{lastGeneration: 2, conditions: [{type: Ready, status: "False", message: told}]}`, health.HealthStatusDegraded},
		"ready, changed since":  {`{lastGeneration: 1, conditions: [{type: Ready, status: "True"}]}`, health.HealthStatusProgressing},
		"nobody knows if ready": {`{lastGeneration: 2, conditions: [{type: Ready, status: Unknown}]}`, health.HealthStatusDegraded},
	} {
		t.Run(name, func(t *testing.T) {
			object := &unstructured.Unstructured{}
			document := "apiVersion: secrets.hashicorp.com/v1beta1\nkind: VaultStaticSecret\nmetadata: {name: db, generation: 2}\nstatus: " + one.status
			if err := yaml.Unmarshal([]byte(document), &object.Object); err != nil {
				t.Fatal(err)
			}
			got, err := overrides.GetResourceHealth(object)
			if err != nil || got == nil || got.Status != one.want {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}
