#include "OpenSSL.hpp"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "Address.hpp"
#include "Turns.hpp"

namespace Net::SMTP {

namespace {

constexpr std::size_t record = SSL3_RT_MAX_PLAIN_LENGTH;
constexpr std::size_t largest_file = 4 * 1024 * 1024;  // of certificates; a system's whole bundle is 250 kB
constexpr std::size_t gathered_at_most = 4 * record;   // sent at once
constexpr std::size_t received_at_most = 4 * record + 2048;
constexpr std::size_t command_size = 2048;  // what comes at once of who does not send much
constexpr std::size_t first_output = 2048;  // a small chunk would stay in its thread's cache for good
constexpr int recvs_per_call = 4;           // a flood of records that say nothing comes back to the caller's deadline

using Bio = std::unique_ptr<BIO, Released<BIO_free>>;

void free_stack(STACK_OF(X509) * stack) { sk_X509_free(stack); }  // not what is in it

std::string errno_text(int error) { return std::generic_category().message(error); }

std::string read_file(const std::string& name) {
    auto fail = [&](int error) { throw std::system_error(error, std::generic_category(), name); };
    const std::unique_ptr<std::FILE, Released<std::fclose>> file(std::fopen(name.c_str(), "re"));
    if (!file) fail(errno);
    std::string text;
    char part[16 * 1024];
    while (const auto n = std::fread(part, 1, sizeof part, file.get())) {
        text.append(part, n);
        if (text.size() > largest_file) fail(EFBIG);
    }
    if (std::ferror(file.get())) fail(errno);
    return text;
}

[[noreturn]] void fail(const std::string& what) {
    const auto why = openssl_problem();
    throw std::runtime_error(why.empty() ? what : what + ": " + why);
}

Bio in_memory(const std::string& text) {
    ERR_clear_error();
    Bio bio(BIO_new_mem_buf(text.data(), int(text.size())));
    if (!bio) throw std::bad_alloc();
    return bio;
}

// Nobody is asked for a passphrase at the terminal.
int no_passphrase(char*, int, int, void*) { return -1; }

std::string text(const X509_NAME* name) {
    const Bio bio(BIO_new(BIO_s_mem()));
    if (!bio || X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253) < 0) return {};
    const char* octets = nullptr;
    const auto size = BIO_get_mem_data(bio.get(), &octets);
    return size > 0 ? without_controls({octets, std::size_t(size)}) : std::string();
}

std::string_view octets(const ASN1_STRING* string) {
    return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(string)), std::size_t(ASN1_STRING_length(string))};
}

std::string address(std::string_view octets) {
    const auto* at = reinterpret_cast<const unsigned char*>(octets.data());
    char text[64] = "";
    if (octets.size() == 4) std::snprintf(text, sizeof text, "%d.%d.%d.%d", at[0], at[1], at[2], at[3]);
    if (octets.size() != 16) return text;
    for (std::size_t i = 0, n = 0; i < 16; i += 2)
        n += std::snprintf(text + n, sizeof text - n, i ? ":%x" : "%x", at[i] << 8 | at[i + 1]);
    return text;
}

std::string text(const GENERAL_NAME* name) {
    int type = 0;
    const auto* value = static_cast<const ASN1_STRING*>(GENERAL_NAME_get0_value(name, &type));
    switch (type) {
        case GEN_DNS: return "DNS:" + without_controls(octets(value));
        case GEN_EMAIL: return "email:" + without_controls(octets(value));
        case GEN_URI: return "URI:" + without_controls(octets(value));
        case GEN_IPADD: return "IP:" + address(octets(value));
        default: return {};
    }
}

std::time_t when(const ASN1_TIME* time) {
    std::tm parts{};
    return ASN1_TIME_to_tm(time, &parts) == 1 ? timegm(&parts) : 0;
}

// What OpenSSL writes is gathered and leaves when it would wait for input, with the end of a flight, or with what is
// said next: a flight is one send, and the tickets of TLS 1.3 travel with the first reply.
class OpenSSLLayer final : public TLSLayer {
public:
    OpenSSLLayer(Ssl ssl, int fd, Role role, std::shared_ptr<const void> keep);
    ~OpenSSLLayer() override;

    Did handshake(bool wait) override;
    Did read(char* to, std::size_t size, std::size_t& got, bool wait) override;
    Did write(const char* from, std::size_t size, std::size_t& sent) override;
    Did end(std::string_view last) noexcept override;
    void park() noexcept override;

    const TLS& tls() const override;
    std::string channel_binding(std::string_view type) const override;
    bool heard() const override { return heard_; }
    std::string problem() const override { return problem_; }

private:
    static const BIO_METHOD* method();
    static int on_write(BIO*, const char* from, std::size_t size, std::size_t* written);
    static int on_read(BIO*, char* to, std::size_t size, std::size_t* got);
    static long on_control(BIO*, int command, long, void*);

    // Before each call of OpenSSL's that may read.
    void begin(bool wait);
    bool flush();
    std::size_t receive(char* to, std::size_t size);
    bool server() const { return SSL_is_server(ssl_.get()) == 1; }
    Did explain(int result);
    Did lost();

    Ssl ssl_;
    const std::shared_ptr<const void> keep_;
    const int fd_;
    int recvs_left_ = 0;
    int input_error_ = 0, output_error_ = 0;  // of the socket
    bool may_wait_ = false;
    bool wants_output_ = false;
    bool heard_;
    bool ended_ = false;
    bool shut_ = false;
    Did over_ = Did::done;    // or what read() says from now on
    bool much_ = false;       // comes at a time
    std::string_view early_;  // has been received before OpenSSL asked for it
    std::string gathered_;
    std::size_t sent_ = 0;      // of it
    std::size_t accepted_ = 0;  // of what write() was given last and has not yet called done
    mutable std::unique_ptr<TLS> tls_;
    std::string problem_;
};

OpenSSLLayer::OpenSSLLayer(Ssl ssl, int fd, Role role, std::shared_ptr<const void> keep)
    : ssl_(std::move(ssl)), keep_(std::move(keep)), fd_(fd), heard_(role == Role::client) {
    BIO* const bio = ssl_ && method() ? BIO_new(method()) : nullptr;
    if (!bio) throw std::bad_alloc();
    BIO_set_data(bio, this);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl_.get(), bio, bio);
    if (role == Role::server) SSL_set_accept_state(ssl_.get());
    else SSL_set_connect_state(ssl_.get());
}

// Without a goodbye OpenSSL would take the session for one that must not be resumed.
OpenSSLLayer::~OpenSSLLayer() {
    if (problem_.empty()) SSL_set_shutdown(ssl_.get(), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
}

const BIO_METHOD* OpenSSLLayer::method() {
    static const std::unique_ptr<BIO_METHOD, Released<BIO_meth_free>> made = [] {
        std::unique_ptr<BIO_METHOD, Released<BIO_meth_free>> m(
            BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket"));
        if (m) {
            BIO_meth_set_write_ex(m.get(), on_write);
            BIO_meth_set_read_ex(m.get(), on_read);
            BIO_meth_set_ctrl(m.get(), on_control);
        }
        return m;
    }();
    return made.get();
}

int OpenSSLLayer::on_write(BIO* bio, const char* from, std::size_t size, std::size_t* written) {
    auto& me = *static_cast<OpenSSLLayer*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    try {
        if (me.gathered_.empty()) me.gathered_.reserve(first_output);
        me.gathered_.append(from, size);
    } catch (const std::bad_alloc&) {
        me.output_error_ = ENOMEM;
        return 0;
    }
    *written = size;
    return 1;
}

int OpenSSLLayer::on_read(BIO* bio, char* to, std::size_t size, std::size_t* got) {
    auto& me = *static_cast<OpenSSLLayer*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    const bool flight = !me.gathered_.empty();
    // What can't be said any more does not keep us from hearing what was said before.
    if (!me.flush() && me.wants_output_) return BIO_set_retry_read(bio), 0;
    // The answer to a flight is not here before it has left.
    if (flight && !me.may_wait_ && me.early_.empty() && me.output_error_ == 0) return BIO_set_retry_read(bio), 0;
    if (me.ended_ || me.input_error_ != 0) return 0;
    if (!me.early_.empty()) {
        *got = me.early_.copy(to, size);
        me.early_.remove_prefix(*got);
        return 1;
    }
    if (const auto n = me.receive(to, size); n > 0) return *got = n, 1;
    if (!me.ended_ && me.input_error_ == 0) BIO_set_retry_read(bio);
    return 0;
}

// 0: nothing now, the end, or an error.
std::size_t OpenSSLLayer::receive(char* to, std::size_t size) {
    if (recvs_left_-- <= 0) return 0;
    const bool wait = std::exchange(may_wait_, false);
    const auto n = wait ? Turns::receive(fd_, to, size) : recv(fd_, to, size, MSG_DONTWAIT);
    ended_ = n == 0;
    heard_ |= n > 0;
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) input_error_ = errno;
    much_ = n >= ssize_t(command_size);
    return n > 0 ? std::size_t(n) : 0;
}

long OpenSSLLayer::on_control(BIO* bio, int command, long, void*) {
    if (command == BIO_CTRL_EOF) return static_cast<OpenSSLLayer*>(BIO_get_data(bio))->ended_;
    return command == BIO_CTRL_FLUSH;
}

void OpenSSLLayer::begin(bool wait) {
    ERR_clear_error();
    may_wait_ = wait;
    wants_output_ = false;
    recvs_left_ = recvs_per_call;
}

// False while the socket does not take everything, and when it never will again.
bool OpenSSLLayer::flush() {
    while (output_error_ == 0 && sent_ < gathered_.size()) {
        const auto n = send(fd_, gathered_.data() + sent_, gathered_.size() - sent_, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            sent_ += std::size_t(n);
            continue;
        }
        if (errno == EINTR) continue;
        wants_output_ = errno == EAGAIN || errno == EWOULDBLOCK;
        if (wants_output_) return false;
        output_error_ = errno;
    }
    gathered_.clear();
    sent_ = 0;
    return output_error_ == 0;
}

TLSLayer::Did OpenSSLLayer::lost() {
    const int error = input_error_ != 0 ? input_error_ : output_error_;
    problem_ = error == 0 || ended_ ? "the other side has closed" : errno_text(error);
    return ended_ || error == 0 || error == ECONNRESET || error == EPIPE ? Did::ended : Did::failed;
}

TLSLayer::Did OpenSSLLayer::explain(int result) {
    const int kind = SSL_get_error(ssl_.get(), result);
    if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE)
        return wants_output_ ? Did::wants_output : Did::wants_input;
    if (kind != SSL_ERROR_SSL) return over_ = lost();
    const bool verdict = ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_CERTIFICATE_VERIFY_FAILED;
    problem_ = openssl_problem();
    if (verdict) problem_ += std::string(": ") + X509_verify_cert_error_string(SSL_get_verify_result(ssl_.get()));
    if (problem_.empty()) problem_ = "TLS failed";
    flush();  // our alert
    return over_ = Did::failed;
}

TLSLayer::Did OpenSSLLayer::handshake(bool wait) {
    begin(wait);
    if (!SSL_is_init_finished(ssl_.get())) {
        const int result = SSL_do_handshake(ssl_.get());
        const auto did = result == 1 ? Did::done : explain(result);
        // The other side waits for what could not be sent, and we would wait for it.
        if (did == Did::wants_input && output_error_ != 0) return over_ = lost();
        if (did != Did::done) return did;
    }
    // In TLS 1.3 the other side waits for nothing that is left, or for something to be said next.
    if (SSL_version(ssl_.get()) < TLS1_3_VERSION && !flush()) return output_error_ == 0 ? Did::wants_output : lost();
    return Did::done;
}

TLSLayer::Did OpenSSLLayer::read(char* to, std::size_t size, std::size_t& got, bool wait) {
    begin(wait);
    got = 0;
    if (over_ != Did::done) return over_;
    // OpenSSL has a buffer from the first octet it asks for. Who waits for a command needs none until it is here.
    char here[command_size];
    if (size > 0 && !much_ && !ended_ && input_error_ == 0 && !SSL_has_pending(ssl_.get())) {
        if (!flush() && wants_output_) return Did::wants_output;
        const auto n = receive(here, sizeof here);
        if (n == 0 && !ended_ && input_error_ == 0) return Did::wants_input;
        early_ = {here, n};
    }
    const int result = SSL_read_ex(ssl_.get(), to, size, &got);
    early_ = {};  // there is room for all of it where nothing is pending
    if (result != 1) return explain(result);
    // What has come along with it. An end, or what is wrong with the next record, is told when it is its turn.
    recvs_left_ = 0;
    while (got < size && SSL_has_pending(ssl_.get())) {
        std::size_t more = 0;
        if (const int next = SSL_read_ex(ssl_.get(), to + got, size - got, &more); next != 1) {
            explain(next);
            break;
        }
        got += more;
    }
    return Did::done;
}

TLSLayer::Did OpenSSLLayer::write(const char* from, std::size_t size, std::size_t& sent) {
    begin(false);
    const bool again = accepted_ > 0;
    while (!again && accepted_ < size && gathered_.size() < gathered_at_most) {
        std::size_t n = 0;
        const int result = SSL_write_ex(ssl_.get(), from + accepted_, std::min(size - accepted_, record), &n);
        if (result != 1) return explain(result);
        accepted_ += n;
    }
    if (!flush()) {
        if (output_error_ == 0) return Did::wants_output;
        problem_ = errno_text(output_error_);
        return Did::failed;
    }
    sent = std::exchange(accepted_, 0);
    return Did::done;
}

TLSLayer::Did OpenSSLLayer::end(std::string_view last) noexcept {
    if (output_error_ != 0 || !SSL_is_init_finished(ssl_.get())) return Did::failed;
    begin(false);
    recvs_left_ = 0;
    std::size_t n = 0;
    for (; !shut_ && !last.empty(); last.remove_prefix(n))
        if (SSL_write_ex(ssl_.get(), last.data(), std::min(last.size(), record), &n) != 1) return Did::failed;
    if (!std::exchange(shut_, true)) SSL_shutdown(ssl_.get());
    return flush() ? Did::done : wants_output_ ? Did::wants_output : Did::failed;
}

void OpenSSLLayer::park() noexcept {
    if (gathered_.empty()) std::string().swap(gathered_);
    SSL_free_buffers(ssl_.get());
    much_ = false;
}

const TLS& OpenSSLLayer::tls() const {
    if (tls_) return *tls_;
    auto all = std::make_unique<TLS>();
    const SSL* ssl = ssl_.get();
    all->version = SSL_get_version(ssl);
    if (const auto* cipher = SSL_get_current_cipher(ssl)) {
        all->cipher = SSL_CIPHER_standard_name(cipher);
        all->bits = SSL_CIPHER_get_bits(cipher, nullptr);
    }
    if (const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name))
        all->server_name = lower_case(without_controls(name));
    all->resumed = SSL_session_reused(ssl) == 1;
    if (X509* const peer = SSL_get0_peer_certificate(ssl)) {
        all->peer = describe(peer);
        const auto verdict = SSL_get_verify_result(ssl);
        all->peer->verified = verdict == X509_V_OK;
        if (!all->peer->verified) all->peer->problem = X509_verify_cert_error_string(verdict);
    }
    tls_ = std::move(all);
    return *tls_;
}

std::string OpenSSLLayer::channel_binding(std::string_view type) const {
    SSL* const ssl = ssl_.get();
    if (type == "tls-exporter" && SSL_version(ssl) == TLS1_3_VERSION) {
        constexpr std::string_view label = "EXPORTER-Channel-Binding";  // RFC 9266 2
        unsigned char key[32];
        if (SSL_export_keying_material(ssl, key, sizeof key, label.data(), label.size(), nullptr, 0, 1) != 1) return {};
        return {reinterpret_cast<char*>(key), sizeof key};
    }
    if (type != "tls-unique" || SSL_version(ssl) != TLS1_2_VERSION || SSL_get_extms_support(ssl) != 1) return {};
    // RFC 5929 3.1: the first Finished message; the client's, but of a resumed session the server's.
    const bool ours = server() == (SSL_session_reused(ssl) == 1);
    char finished[EVP_MAX_MD_SIZE];
    const auto size =
        ours ? SSL_get_finished(ssl, finished, sizeof finished) : SSL_get_peer_finished(ssl, finished, sizeof finished);
    return {finished, std::min(size, sizeof finished)};
}

}  // namespace

std::string without_controls(std::string_view text) {
    std::string clean(text);
    for (char& c : clean)
        if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = '?';
    return clean;
}

std::string openssl_problem() {
    const char* data = nullptr;
    int flags = 0;
    const auto error = ERR_peek_last_error_all(nullptr, nullptr, nullptr, &data, &flags);
    if (error == 0) return {};
    std::string text;
    if (ERR_SYSTEM_ERROR(error)) text = errno_text(ERR_GET_REASON(error));
    else if (const char* reason = ERR_reason_error_string(error)) text = reason;
    else text = "error " + std::to_string(error);
    ERR_clear_error();
    return without_controls(text);
}

SslContext make_context() {
    ERR_clear_error();
    SslContext context(SSL_CTX_new(TLS_method()));
    auto* c = context.get();
    if (!c || !SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION) || !SSL_CTX_set_max_proto_version(c, 0) ||
        !SSL_CTX_set1_groups_list(c, "X25519:P-256:P-384"))
        fail("TLS");
    SSL_CTX_set_options(c, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(c, 1);
    SSL_CTX_set_default_read_buffer_len(c, received_at_most);
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    return context;
}

std::vector<SslCertificate> read_certificates(const std::string& file) {
    const auto text = read_file(file);
    const auto bio = in_memory(text);
    std::vector<SslCertificate> all;
    while (X509* x = PEM_read_bio_X509_AUX(bio.get(), nullptr, no_passphrase, nullptr)) all.emplace_back(x);
    // The end of the file is an error too.
    const bool whole = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    if (all.empty() && whole) ERR_clear_error();
    if (all.empty()) fail(file + ": no certificate in it");
    if (!whole) fail(file + ": a certificate in it can't be read");
    ERR_clear_error();
    return all;
}

SslKeyPair read_key_pair(const std::string& certificate_file, const std::string& key_file) {
    SslKeyPair pair;
    pair.file = certificate_file;
    pair.chain = read_certificates(certificate_file);
    const auto text = read_file(key_file);
    pair.key.reset(PEM_read_bio_PrivateKey(in_memory(text).get(), nullptr, no_passphrase, nullptr));
    if (!pair.key) fail(key_file + ": no private key that can be read");
    if (X509_check_private_key(pair.chain.front().get(), pair.key.get()) != 1)
        fail(key_file + " is not the key of " + certificate_file);
    return pair;
}

void use_key_pair(SSL_CTX* context, const SslKeyPair& pair) {
    ERR_clear_error();
    const std::unique_ptr<STACK_OF(X509), Released<free_stack>> chain(sk_X509_new_null());
    if (!chain) throw std::bad_alloc();
    for (std::size_t i = 1; i < pair.chain.size(); ++i)
        if (!sk_X509_push(chain.get(), pair.chain[i].get())) throw std::bad_alloc();
    if (SSL_CTX_use_cert_and_key(context, pair.chain.front().get(), pair.key.get(), chain.get(), 1) != 1)
        fail(pair.file + ": this certificate or its key can't be used");
}

Certificate describe(X509* certificate) {
    Certificate all;
    all.subject = text(X509_get_subject_name(certificate));
    all.issuer = text(X509_get_issuer_name(certificate));
    const std::unique_ptr<GENERAL_NAMES, Released<GENERAL_NAMES_free>> names(
        static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
    for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i)
        if (auto name = text(sk_GENERAL_NAME_value(names.get(), i)); !name.empty())
            all.names.push_back(std::move(name));
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    if (X509_digest(certificate, EVP_sha256(), digest, &size) == 1)
        for (unsigned i = 0; i < size; ++i)
            for (const int nibble : {digest[i] >> 4, digest[i] & 15}) all.fingerprint += "0123456789abcdef"[nibble];
    all.not_before = when(X509_get0_notBefore(certificate));
    all.not_after = when(X509_get0_notAfter(certificate));
    ERR_clear_error();
    return all;
}

std::unique_ptr<TLSLayer> make_layer(Ssl ssl, int fd, Role role, std::shared_ptr<const void> keep) {
    return std::make_unique<OpenSSLLayer>(std::move(ssl), fd, role, std::move(keep));
}

}  // namespace Net::SMTP
