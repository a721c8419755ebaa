// bare-transit is the least that a decryption endpoint can be: it answers the decryption of a Vault Transit from a map
// in memory, over TLS, by HTTP/2 or HTTP/1.1, and does nothing else. It checks no token. What regent's endpoint costs is
// compared with it.
package main

import (
	"encoding/json"
	"flag"
	"log"
	"net/http"
	"os"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8200", "address")
	certificate := flag.String("cert", "", "PEM `file` with the certificate")
	key := flag.String("key", "", "PEM `file` with its key")
	keys := flag.String("keys", "", "JSON `file`: for every ciphertext the base64 of its data key")
	flag.Parse()

	text, err := os.ReadFile(*keys)
	if err != nil {
		log.Fatal(err)
	}
	var plaintexts map[string]string
	if err := json.Unmarshal(text, &plaintexts); err != nil {
		log.Fatal(err)
	}

	http.HandleFunc("PUT /v1/", func(answer http.ResponseWriter, request *http.Request) {
		var asked struct {
			Ciphertext string `json:"ciphertext"`
		}
		if err := json.NewDecoder(request.Body).Decode(&asked); err != nil {
			http.Error(answer, `{"errors":["not JSON"]}`, http.StatusBadRequest)
			return
		}
		plaintext, known := plaintexts[asked.Ciphertext]
		if !known {
			http.Error(answer, `{"errors":["unknown"]}`, http.StatusForbidden)
			return
		}
		answer.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(answer).Encode(map[string]any{"data": map[string]string{"plaintext": plaintext}})
	})
	log.Fatal(http.ListenAndServeTLS(*listen, *certificate, *key, nil))
}
