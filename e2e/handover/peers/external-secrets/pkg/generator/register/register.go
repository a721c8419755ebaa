// Package register has no generator.
package register
