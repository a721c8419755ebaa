// Command argocd-driver renders Application sources through Argo CD's real repo-server code and prints what
// Argo CD would hand to its application controller.
//
// It asks a running repo-server (-server), or starts the repo-server's service in this process, and leaves the
// rest to Argo CD: cloning, probing the plugin's socket, streaming the checkout, reading the answer, splitting
// it, setting the tracking metadata. Nothing of that path is written again here.
//
// The flags describe one Application. With -requests each line of standard input is a JSON object (see
// application) that changes some of it; all lines are asked at once, and each answer is a line of JSON (see
// answer) in the order in which they end.
//
// Exit status: 0 when everything rendered, or with -requests; 1 when it did not; 2 for wrong usage.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	log "github.com/sirupsen/logrus"
	"google.golang.org/protobuf/types/known/emptypb"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/argoproj/argo-cd/v3/common"
	"github.com/argoproj/argo-cd/v3/pkg/apis/application/v1alpha1"
	"github.com/argoproj/argo-cd/v3/reposerver"
	"github.com/argoproj/argo-cd/v3/reposerver/apiclient"
	reposervercache "github.com/argoproj/argo-cd/v3/reposerver/cache"
	"github.com/argoproj/argo-cd/v3/reposerver/metrics"
	"github.com/argoproj/argo-cd/v3/reposerver/repository"
	cacheutil "github.com/argoproj/argo-cd/v3/util/cache"
	"github.com/argoproj/argo-cd/v3/util/git"
	"github.com/argoproj/argo-cd/v3/util/tls"
)

// application is what is asked for.
type application struct {
	// ID comes back in the answer.
	ID int `json:"id"`
	// Repo is a local path, or any URL that Argo CD accepts; Revision is the Application's targetRevision.
	Repo     string `json:"repo"`
	Revision string `json:"revision"`
	Path     string `json:"path"`
	// Plugin is source.plugin.name. Nil: no plugin block; empty: a block without a name.
	Plugin *string `json:"plugin"`
	// Env is source.plugin.env, as NAME=VALUE.
	Env       values `json:"env"`
	App       string `json:"app"`
	Project   string `json:"project"`
	Namespace string `json:"namespace"`
	// Cache lets Argo CD answer from its caches.
	Cache bool `json:"cache"`
	// ManifestPaths is the annotation argocd.argoproj.io/manifest-generate-paths.
	ManifestPaths string `json:"manifestPaths"`
	// Seconds is the deadline of one call.
	Seconds float64 `json:"seconds"`
	// Quiet leaves the manifests out of the answer.
	Quiet bool `json:"quiet"`
	// ListPlugins asks for the names of the plugins instead.
	ListPlugins bool `json:"listPlugins"`
}

// answer is what came back.
type answer struct {
	ID int `json:"id"`
	// Revision is the commit that Argo CD made of the target revision.
	Revision string `json:"revision,omitempty"`
	// SourceType is what Argo CD took the source for; "Plugin" when a plugin rendered it.
	SourceType string `json:"sourceType,omitempty"`
	// Manifests are the objects of the last call, in Argo CD's order.
	Manifests []json.RawMessage `json:"manifests"`
	// Millis is how long each GenerateManifest call took.
	Millis []float64 `json:"millis"`
	// Plugins are the names that ListPlugins gave.
	Plugins []string `json:"plugins,omitempty"`
	// Error is the error of the call that failed, as the application controller would show it.
	Error string `json:"error,omitempty"`
}

// values is a repeatable NAME=VALUE flag.
type values []string

func (v *values) String() string { return strings.Join(*v, " ") }

func (v *values) Set(s string) error {
	if name, _, ok := strings.Cut(s, "="); !ok || name == "" {
		return errors.New("want NAME=VALUE")
	}
	*v = append(*v, s)
	return nil
}

func main() {
	var app application
	plugin := flag.String("plugin", "", "source.plugin.name; empty: the plugin whose discovery matches")
	flag.StringVar(&app.Repo, "repo", "", "repository: a local path, or a URL")
	flag.StringVar(&app.Revision, "revision", "HEAD", "targetRevision")
	flag.StringVar(&app.Path, "path", ".", "source.path")
	flag.Var(&app.Env, "env", "source.plugin.env entry NAME=VALUE (repeatable)")
	flag.StringVar(&app.App, "app", "e2e", "Application name")
	flag.StringVar(&app.Project, "project", "default", "AppProject name")
	flag.StringVar(&app.Namespace, "namespace", "default", "destination namespace")
	flag.BoolVar(&app.Cache, "cache", false, "let Argo CD answer from its caches")
	flag.StringVar(&app.ManifestPaths, "manifest-generate-paths", "", "that annotation of the Application")
	flag.Float64Var(&app.Seconds, "timeout", 60, "deadline of one call, in seconds")
	flag.BoolVar(&app.Quiet, "no-manifests", false, "leave the manifests out of the output")
	runs := flag.Int("runs", 1, "how often to render, one after the other")
	requests := flag.Bool("requests", false, "read Applications from standard input, a line of JSON each")
	server := flag.String("server", "", "address of a running repo-server without TLS; empty: one in this process")
	sockDir := flag.String("sock-dir", os.Getenv(common.EnvPluginSockFilePath), "folder of the plugin sockets")
	redisAddr := flag.String("redis", "", "redis for the repo-server in this process; empty: one in memory")
	workDir := flag.String("work-dir", "", "where its checkouts go; empty: a temporary folder")
	flag.Parse()
	app.Plugin = plugin
	log.SetLevel(log.ErrorLevel)
	if err := run(app, *runs, *requests, *server, *sockDir, *redisAddr, *workDir); err != nil {
		fmt.Fprintln(os.Stderr, "argocd-driver:", err)
		os.Exit(2)
	}
}

func run(app application, runs int, requests bool, server, sockDir, redisAddr, workDir string) error {
	// An interrupted call ends, so that its checkout is still removed.
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if server == "" {
		address, stop, err := startRepoServer(sockDir, redisAddr, workDir)
		if err != nil {
			return fmt.Errorf("start repo-server: %w", err)
		}
		defer stop()
		server = address
	}
	// The same client, without TLS, as the application controller uses.
	clients := apiclient.NewRepoServerClientset(server, 3600, tls.Configuration{DisableTLS: true})
	conn, client, err := clients.NewRepoServerClient()
	if err != nil {
		return err
	}
	defer conn.Close()

	out := json.NewEncoder(os.Stdout)
	if !requests {
		out.SetIndent("", "  ")
		got := render(ctx, client, app, runs)
		if err := out.Encode(got); err != nil {
			return err
		}
		if got.Error != "" {
			os.Exit(1) //nolint:gocritic // what is not undone are temporary files of a failed run
		}
		return nil
	}
	var writing sync.Mutex
	var calls sync.WaitGroup
	defer calls.Wait()
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return nil
		}
		asked := app
		if err := json.Unmarshal(line, &asked); err != nil {
			return err
		}
		calls.Go(func() {
			got := render(ctx, client, asked, 1)
			writing.Lock()
			defer writing.Unlock()
			_ = out.Encode(got)
		})
	}
}

func render(ctx context.Context, client apiclient.RepoServerServiceClient, app application, runs int) *answer {
	got := &answer{ID: app.ID, Manifests: []json.RawMessage{}}
	if app.ListPlugins {
		plugins, err := client.ListPlugins(ctx, &emptypb.Empty{})
		if err != nil {
			got.Error = err.Error()
		}
		for _, plugin := range plugins.GetItems() {
			got.Plugins = append(got.Plugins, plugin.Name)
		}
		return got
	}
	for range runs {
		ctx, cancel := context.WithTimeout(ctx, time.Duration(app.Seconds*float64(time.Second)))
		start := time.Now()
		response, err := client.GenerateManifest(ctx, request(app))
		got.Millis = append(got.Millis, float64(time.Since(start).Microseconds())/1000)
		cancel()
		if err != nil {
			got.Error = err.Error()
			return got
		}
		got.Revision, got.SourceType, got.Manifests = response.Revision, response.SourceType, got.Manifests[:0]
		for _, manifest := range response.Manifests {
			if !app.Quiet {
				got.Manifests = append(got.Manifests, json.RawMessage(manifest))
			}
		}
	}
	return got
}

// request is what the application controller sends for an Application with this source.
func request(app application) *apiclient.ManifestRequest {
	repo := app.Repo
	if !strings.Contains(repo, "://") {
		if absolute, err := filepath.Abs(repo); err == nil {
			repo = "file://" + absolute
		}
	}
	source := &v1alpha1.ApplicationSource{RepoURL: repo, Path: app.Path, TargetRevision: app.Revision}
	if app.Plugin != nil {
		source.Plugin = &v1alpha1.ApplicationSourcePlugin{Name: *app.Plugin}
		for _, entry := range app.Env {
			name, value, _ := strings.Cut(entry, "=")
			source.Plugin.Env = append(source.Plugin.Env, &v1alpha1.EnvEntry{Name: name, Value: value})
		}
	}
	return &apiclient.ManifestRequest{
		Repo:                            &v1alpha1.Repository{Repo: repo, Type: "git"},
		Revision:                        app.Revision,
		ApplicationSource:               source,
		AppName:                         app.App,
		AppLabelKey:                     common.LabelKeyAppInstance,
		TrackingMethod:                  string(v1alpha1.TrackingMethodAnnotation),
		Namespace:                       app.Namespace,
		ProjectName:                     app.Project,
		ProjectSourceRepos:              []string{"*"},
		KubeVersion:                     "1.34.0",
		ApiVersions:                     []string{"v1", "apps/v1"},
		NoCache:                         !app.Cache,
		NoRevisionCache:                 !app.Cache,
		AnnotationManifestGeneratePaths: app.ManifestPaths,
	}
}

// startRepoServer serves Argo CD's repo-server on a loopback port with the defaults of its command, save that
// TLS is off.
func startRepoServer(sockDir, redisAddr, workDir string) (address string, stop func(), err error) {
	stop = func() {}
	if workDir == "" {
		if workDir, err = os.MkdirTemp("", "argocd-driver-"); err != nil {
			return "", nil, err
		}
		stop = func() { removeAll(workDir) }
	}
	bin := filepath.Join(workDir, "bin")
	// Argo CD's image has this script, and the repo-server runs it for every commit.
	wrapper := filepath.Join(bin, "git-verify-wrapper.sh")
	if err := errors.Join(os.MkdirAll(bin, 0o700),
		os.WriteFile(wrapper, []byte("#!/bin/sh\ngit verify-commit \"$1\" 2>&1 || :\n"), 0o700),
		os.Setenv("PATH", bin+":"+os.Getenv("PATH")), os.Setenv("TMPDIR", workDir),
		os.Setenv(common.EnvPluginSockFilePath, sockDir), os.Setenv(common.EnvLogLevel, "error")); err != nil {
		return "", nil, err
	}
	if _, err := exec.LookPath("git"); err != nil {
		return "", nil, err
	}
	if redisAddr == "" {
		memory, err := miniredis.Run()
		if err != nil {
			return "", nil, err
		}
		redisAddr = memory.Addr()
	}
	client := redis.NewClient(&redis.Options{Addr: redisAddr})
	cache := reposervercache.NewCache(
		cacheutil.NewCache(cacheutil.NewRedisCache(client, 24*time.Hour, cacheutil.RedisCompressionGZip)),
		24*time.Hour, 3*time.Minute, 10*time.Second)
	server, err := reposerver.NewServer(metrics.NewMetricsServer(), cache, nil, repository.RepoServerInitConstants{
		PauseGenerationAfterFailedGenerationAttempts: 3,
		PauseGenerationOnFailureForMinutes:           60,
		SubmoduleEnabled:                             true,
		MaxCombinedDirectoryManifestsSize:            resource.MustParse("10M"),
		StreamedManifestMaxExtractedSize:             1_000_000_000,
		StreamedManifestMaxTarSize:                   100_000_000,
		HelmManifestMaxExtractedSize:                 1_000_000_000,
		HelmRegistryMaxIndexSize:                     1_000_000_000,
		OCIManifestMaxExtractedSize:                  1_000_000_000,
		EnableBuiltinGitConfig:                       true,
		HelmChartCacheExpiration:                     24 * time.Hour,
	}, git.NoopCredsStore{}, "", true)
	if err != nil {
		return "", nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	service, remove := server.CreateGRPC(), stop
	go func() { _ = service.Serve(listener) }()
	return listener.Addr().String(), func() { service.Stop(); remove() }, nil
}

// removeAll removes a tree whose folders may lack permissions: the repo-server takes all rights off the one
// that its checkouts lie in.
func removeAll(dir string) {
	_ = filepath.WalkDir(dir, func(path string, entry os.DirEntry, _ error) error {
		if entry != nil && entry.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	_ = os.RemoveAll(dir)
}
