// TLS -- what is known of an encrypted connection, and the layer that encrypts one.
#pragma once

#include <cstddef>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace Net::SMTP {

// A certificate that the other side has shown (RFC 5280). The texts hold no control characters.
struct Certificate {
    std::string subject{};             // as RFC 2253 writes it: "CN=mail.example.org,O=Example"
    std::string issuer{};              //
    std::vector<std::string> names{};  // subjectAltName: "DNS:example.org", "email:a@b", "IP:192.0.2.1", "URI:..."
    std::string fingerprint{};         // SHA-256 of the certificate, 64 hexadecimal digits in small letters
    std::time_t not_before = 0, not_after = 0;
    bool verified = false;  // by what this side was told to trust; of a server its name too
    std::string problem{};  // why it is not, for a log: "self-signed certificate"
};

// What a handshake has agreed on.
struct TLS {
    std::string version{};      // "TLSv1.2", "TLSv1.3"
    std::string cipher{};       // the suite's registered name: "TLS_AES_256_GCM_SHA384"
    int bits = 0;               // of the cipher's key
    std::string server_name{};  // whom the client has asked for (SNI, RFC 6066 3), in small letters; "" for none
    bool resumed = false;       // an earlier session went on
    std::optional<Certificate> peer{};  // what the other side has shown, if anything
};

// Stands between a Connection and its socket. It never waits for longer than one recv(2) of that socket does, and
// knows no deadlines: those are the Connection's. One thread at a time. After `failed` only problem() and the
// destructor are called; after `ended` what is said may still arrive.
class TLSLayer {
public:
    enum class Did {
        done,          // what was asked for, if only a part
        wants_input,   // nothing, until the socket can be read
        wants_output,  // nothing, until the socket can be written
        ended,         // the other side has closed, with or without saying so
        failed,        // problem() says why
    };
    virtual ~TLSLayer() = default;

    // Goes on with the handshake; `done` when it is complete. With `wait` the first recv(2) of a call may wait.
    virtual Did handshake(bool wait) = 0;
    // Up to `size` octets, at least one when done.
    virtual Did read(char* to, std::size_t size, std::size_t& got, bool wait) = 0;
    // Of `size` octets, at least one when done. The same octets must be offered again when it was not done.
    virtual Did write(const char* from, std::size_t size, std::size_t& sent) = 0;
    // Says this last, and that nothing more comes (close_notify), as one. `wants_output`: to be asked again for the
    // rest of it, with anything. No write() may be unfinished.
    virtual Did end(std::string_view last) noexcept = 0;
    // Gives back the memory that nobody needs while nothing is said.
    virtual void park() noexcept {}

    // After the handshake.
    virtual const TLS& tls() const = 0;
    // Channel binding data (RFC 5056): of type "tls-exporter" (RFC 9266; TLS 1.3) or "tls-unique" (RFC 5929; TLS 1.2
    // with the extended master secret of RFC 7627). "" where there is none.
    virtual std::string channel_binding(std::string_view type) const = 0;
    // Whether it is more than idle: a client's side, which speaks first, always is; a server's when the other has spoken.
    virtual bool heard() const { return true; }
    // For a log: "wrong version number", "certificate verify failed: ...".
    virtual std::string problem() const = 0;

protected:
    TLSLayer() = default;
    TLSLayer(const TLSLayer&) = default;
    TLSLayer& operator=(const TLSLayer&) = default;
};

// Makes the server's side of TLS for a connected socket. ServerTLS is the real one. Any number of threads may ask.
class TLSAcceptor {
public:
    virtual ~TLSAcceptor() = default;
    // The descriptor stays the caller's, and open for longer than the layer. std::bad_alloc, std::runtime_error.
    virtual std::unique_ptr<TLSLayer> accept(int fd) = 0;

protected:
    TLSAcceptor() = default;
    TLSAcceptor(const TLSAcceptor&) = default;
    TLSAcceptor& operator=(const TLSAcceptor&) = default;
};

}  // namespace Net::SMTP
