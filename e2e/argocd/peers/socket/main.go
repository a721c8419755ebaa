// Command argocd-socket is Argo CD's own plugin client, straight on a plugin's socket: without a repo-server,
// so that one can send what a repo-server would not.
//
// Each line of standard input is a call (see call); all are made at once, each on a connection of its own as
// Argo CD has it, and each answer is a line of JSON (see answer) in the order in which they end.
//
// With -load it is a benchmark instead: one upload per folder, made once by Argo CD's code, is sent -rounds
// times by -parallel clients, and a line of JSON with the figures is printed. Several sockets take turns, round by
// round, so that all see the same machine; a first round of each is not counted.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	log "github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/argoproj/argo-cd/v3/cmpserver/apiclient"
	"github.com/argoproj/argo-cd/v3/util/cmp"
)

// call is one remote call.
type call struct {
	ID int `json:"id"`
	// Name: generate, match, parameters or check.
	Name string `json:"call"`
	// OldDial dials as Argo CD 2.10 to 3.1 does, whose :authority begins with %2F.
	OldDial bool `json:"oldDial"`
	// Root and Path: a folder and the application in it, sent by Argo CD's own code; Env: NAME=VALUE.
	Root string   `json:"root"`
	Path string   `json:"path"`
	Env  []string `json:"env"`
	// Messages are sent instead, where there are any.
	Messages []message `json:"messages"`
	// CancelAfter messages the client goes away; 0: never.
	CancelAfter int `json:"cancelAfter"`
	// Seconds is the deadline; 0: none.
	Seconds float64 `json:"seconds"`
}

// message is one message of an upload: metadata, a chunk (base64), or the chunks of a file.
type message struct {
	Metadata *apiclient.ManifestRequestMetadata `json:"metadata"`
	Chunk    *[]byte                            `json:"chunk"`
	File     string                             `json:"file"`
	// Size of a file's chunks, in bytes.
	Size int `json:"size"`
}

// answer is what came back: the response, or the error.
type answer struct {
	ID       int     `json:"id"`
	Response any     `json:"response,omitempty"`
	Code     string  `json:"code,omitempty"`
	Error    string  `json:"error,omitempty"`
	Sent     int     `json:"sent"`
	Millis   float64 `json:"millis"`
}

// upload is a stream of any of the three calls that take one.
type upload interface {
	Send(*apiclient.AppStreamRequest) error
	CloseSend() error
	RecvMsg(any) error
}

func main() {
	sock := flag.String("sock", "", "the plugin's socket (required); with -load several, separated by commas")
	load := flag.Bool("load", false, "measure: send the folders given as arguments, each ROOT or ROOT:PATH")
	rounds := flag.Int("rounds", 1, "with -load: how often each is sent")
	parallel := flag.Int("parallel", 1, "with -load: by how many clients")
	chunk := flag.Int("chunk", 1024, "with -load: bytes per message; Argo CD's default is 1024")
	env := flag.String("env", "", "with -load: NAME=VALUE of all requests, separated by commas; @ stands for the folder's path")
	flag.Parse()
	log.SetLevel(log.FatalLevel)
	// Argo CD's client takes no relative paths.
	sockets := strings.Split(*sock, ",")
	var err error
	for i := range sockets {
		var wrong error
		sockets[i], wrong = filepath.Abs(sockets[i])
		err = errors.Join(err, wrong)
	}
	if *load && err == nil {
		err = measure(sockets, flag.Args(), strings.Split(*env, ","), *rounds, *parallel, *chunk)
	} else if err == nil {
		err = serve(sockets[0])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "argocd-socket:", err)
		os.Exit(2)
	}
}

func serve(socket string) error {
	out := json.NewEncoder(os.Stdout)
	var writing sync.Mutex
	var calls sync.WaitGroup
	defer calls.Wait()
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return nil
		}
		var asked call
		if err := json.Unmarshal(line, &asked); err != nil {
			return err
		}
		calls.Go(func() {
			got := answer{ID: asked.ID}
			start := time.Now()
			err := asked.make(socket, &got)
			got.Millis = float64(time.Since(start).Microseconds()) / 1000
			if err != nil {
				got.Response = nil
				got.Error = err.Error()
				if told, ok := status.FromError(err); ok {
					got.Code, got.Error = told.Code().String(), told.Message()
				}
			}
			writing.Lock()
			defer writing.Unlock()
			_ = out.Encode(got)
		})
	}
}

func dial(socket string, old bool) (io.Closer, apiclient.ConfigManagementPluginServiceClient, error) {
	if !old {
		return apiclient.NewConfigManagementPluginClientSet(socket).NewConfigManagementPluginClient()
	}
	// The path is the target, and the dialer goes to the socket whatever it is asked for.
	conn, err := grpc.DialContext(context.Background(), socket, //nolint:staticcheck // that is the point
		grpc.WithBlock(), grpc.FailOnNonTempDialError(true), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second}),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}))
	if err != nil {
		return nil, nil, err
	}
	return conn, apiclient.NewConfigManagementPluginServiceClient(conn), nil
}

func (c *call) make(socket string, got *answer) error {
	conn, client, err := dial(socket, c.OldDial)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(context.Background())
	if c.Seconds > 0 {
		ctx, cancel = context.WithTimeout(context.Background(), time.Duration(c.Seconds*float64(time.Second)))
	}
	defer cancel()
	var stream upload
	switch c.Name {
	case "check":
		got.Response, err = client.CheckPluginConfiguration(ctx, &emptypb.Empty{})
		return err
	case "generate":
		stream, err = client.GenerateManifest(ctx)
		got.Response = &apiclient.ManifestResponse{}
	case "match":
		stream, err = client.MatchRepository(ctx)
		got.Response = &apiclient.RepositoryResponse{}
	case "parameters":
		stream, err = client.GetParametersAnnouncement(ctx)
		got.Response = &apiclient.ParametersAnnouncementResponse{}
	default:
		return errors.New("no such call")
	}
	if err != nil {
		return err
	}
	sender := &counting{stream, got, c.CancelAfter, cancel}
	if c.Messages == nil {
		err = cmp.SendRepoStream(ctx, filepath.Join(c.Root, c.Path), c.Root, sender, c.Env, nil)
	} else {
		err = send(sender, c.Messages)
	}
	// As Argo CD: an upload that cannot be sent hides the server's own answer.
	if err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	return stream.RecvMsg(got.Response)
}

// counting counts the messages that were sent, and goes away after some of them.
type counting struct {
	upload
	got    *answer
	limit  int
	cancel func()
}

func (c *counting) Send(request *apiclient.AppStreamRequest) error {
	if c.limit > 0 && c.got.Sent == c.limit {
		c.cancel()
	}
	err := c.upload.Send(request)
	if err == nil {
		c.got.Sent++
	}
	return err
}

func send(sender cmp.StreamSender, messages []message) error {
	for _, m := range messages {
		request := &apiclient.AppStreamRequest{}
		switch {
		case m.Metadata != nil:
			request.Request = &apiclient.AppStreamRequest_Metadata{Metadata: m.Metadata}
		case m.Chunk != nil:
			request = cmp.AppFileRequest(*m.Chunk)
		case m.File != "":
			if err := sendFile(sender, m.File, m.Size); err != nil {
				return err
			}
			continue
		}
		if err := sender.Send(request); err != nil {
			return err
		}
	}
	return nil
}

func sendFile(sender cmp.StreamSender, name string, size int) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	chunk := make([]byte, size)
	for {
		count, err := io.ReadFull(file, chunk)
		if count > 0 {
			if err := sender.Send(cmp.AppFileRequest(chunk[:count])); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
	}
}

// recorded keeps the messages of an upload.
type recorded struct{ messages []*apiclient.AppStreamRequest }

func (r *recorded) Send(request *apiclient.AppStreamRequest) error {
	if file := request.GetFile(); file != nil {
		request = cmp.AppFileRequest(slices.Clone(file.Chunk))
	}
	r.messages = append(r.messages, request)
	return nil
}

// figures are what -load prints of a socket: milliseconds of one request, dial and close included, and requests a
// second.
type figures struct {
	Requests int     `json:"requests"`
	Failed   int     `json:"failed"`
	Error    string  `json:"error,omitempty"`
	P50      float64 `json:"p50"`
	P99      float64 `json:"p99"`
	Rate     float64 `json:"rate"`
	Seconds  float64 `json:"seconds"`

	took []float64
}

func measure(sockets, folders, env []string, rounds, parallel, chunk int) error {
	os.Setenv("ARGOCD_CMP_CHUNK_SIZE", fmt.Sprint(chunk))
	uploads, err := pack(folders, env)
	if err != nil {
		return err
	}
	got := make([]figures, len(sockets))
	for _, socket := range sockets {
		(&figures{}).round(socket, uploads, parallel)
	}
	for range rounds {
		for i, socket := range sockets {
			got[i].round(socket, uploads, parallel)
		}
	}
	out := json.NewEncoder(os.Stdout)
	for i := range got {
		slices.Sort(got[i].took)
		got[i].Requests = len(got[i].took)
		got[i].Rate = float64(got[i].Requests) / got[i].Seconds
		got[i].P50, got[i].P99 = got[i].took[got[i].Requests/2], got[i].took[got[i].Requests*99/100]
		err = errors.Join(err, out.Encode(got[i]))
	}
	return err
}

// pack makes the upload of each folder. Folders of one root share its archive, which Argo CD's code makes once:
// only the metadata in front differ.
func pack(folders, env []string) ([][]*apiclient.AppStreamRequest, error) {
	packed := map[string][]*apiclient.AppStreamRequest{}
	uploads := make([][]*apiclient.AppStreamRequest, 0, len(folders))
	for _, folder := range folders {
		root, path, _ := strings.Cut(folder, ":")
		if packed[root] == nil {
			made := &recorded{}
			if err := cmp.SendRepoStream(context.Background(), root, root, made, nil, nil); err != nil {
				return nil, err
			}
			packed[root] = made.messages
		}
		archive := packed[root][0].GetMetadata()
		metadata := &apiclient.ManifestRequestMetadata{
			AppName: filepath.Base(filepath.Join(root, path)), AppRelPath: filepath.Clean(path),
			Checksum: archive.Checksum, Size_: archive.Size_,
		}
		for _, entry := range env {
			if name, value, ok := strings.Cut(strings.ReplaceAll(entry, "@", path), "="); ok {
				metadata.Env = append(metadata.Env, &apiclient.EnvEntry{Name: name, Value: value})
			}
		}
		first := &apiclient.AppStreamRequest{Request: &apiclient.AppStreamRequest_Metadata{Metadata: metadata}}
		uploads = append(uploads, append([]*apiclient.AppStreamRequest{first}, packed[root][1:]...))
	}
	return uploads, nil
}

// round sends every upload once.
func (f *figures) round(socket string, uploads [][]*apiclient.AppStreamRequest, parallel int) {
	next := make(chan int)
	took := make([]float64, len(uploads))
	failed := make([]error, len(uploads))
	var clients sync.WaitGroup
	start := time.Now()
	for range parallel {
		clients.Go(func() {
			for i := range next {
				start := time.Now()
				failed[i] = generate(socket, uploads[i])
				took[i] = float64(time.Since(start).Microseconds()) / 1000
			}
		})
	}
	for i := range uploads {
		next <- i
	}
	close(next)
	clients.Wait()
	f.Seconds += time.Since(start).Seconds()
	f.took = append(f.took, took...)
	for _, err := range failed {
		if err != nil {
			f.Failed++
			f.Error = err.Error()
		}
	}
}

func generate(socket string, messages []*apiclient.AppStreamRequest) error {
	conn, client, err := dial(socket, false)
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, err := client.GenerateManifest(context.Background())
	if err != nil {
		return err
	}
	for _, message := range messages {
		if err := stream.Send(message); err != nil {
			return err
		}
	}
	_, err = stream.CloseAndRecv()
	return err
}
