// Package register has the one provider that the stories ask. All of them together take many times as long to build.
package register

import _ "github.com/external-secrets/external-secrets/pkg/provider/vault"
