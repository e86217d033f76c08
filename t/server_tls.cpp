// server_tls -- the server's side of TLS: what it shows, whom it believes, what it resumes, and what goes wrong.
#include <openssl/pem.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <Net/SMTP/Server/OpenSSL.hpp>
#include <atomic>
#include <fstream>
#include <sstream>
#include <system_error>

#include "certificates.hpp"
#include "faults.hpp"
#include "sanitized.hpp"

#include <doctest/doctest.h>

using namespace test;
using Did = TLSLayer::Did;
using Mode = ServerTLS::ClientCertificate;

namespace {

Certificates& ca() {
    static Certificates authority;
    return authority;
}
const KeyPair& mx() {
    static const auto pair = ca().issue({.names = {"mx.test"}});
    return pair;
}
// For clients: of a user.
const KeyPair& joe() {
    static const auto pair = ca().issue(of_client({.names = {"email:joe@mx.test"}, .common_name = "joe"}));
    return pair;
}

// How a client comes.
struct As {
    std::string name{};  // whom it asks for
    int version = 0;     // TLS1_2_VERSION; the best there is
    KeyPair certificate{};
    SSL_SESSION* session = nullptr;
    std::string ciphers{};     // of TLS 1.2 and before
    std::string signatures{};  // that it understands
    std::string groups{};
};

struct Peer {
    Peer(const As& as, int fd) {
        const auto context = make_context();
        auto* c = context.get();
        SSL_CTX_load_verify_locations(c, ca().file().c_str(), nullptr);
        if (!as.ciphers.empty()) REQUIRE(SSL_CTX_set_cipher_list(c, as.ciphers.c_str()) == 1);
        if (!as.signatures.empty()) REQUIRE(SSL_CTX_set1_sigalgs_list(c, as.signatures.c_str()) == 1);
        if (!as.groups.empty()) REQUIRE(SSL_CTX_set1_groups_list(c, as.groups.c_str()) == 1);
        if (as.version) {
            SSL_CTX_set_min_proto_version(c, as.version);
            SSL_CTX_set_max_proto_version(c, as.version);
        }
        if (!as.certificate.key.empty()) use_key_pair(c, read_key_pair(as.certificate.certificate, as.certificate.key));
        Ssl made(SSL_new(c));
        if (!as.name.empty()) SSL_set_tlsext_host_name(made.get(), as.name.c_str());
        if (as.session) SSL_set_session(made.get(), as.session);
        ssl = made.get();
        layer = make_layer(std::move(made), fd, Role::client);
    }
    SslSession session() const { return SslSession(SSL_get1_session(ssl)); }

    SSL* ssl;  // the layer's
    std::unique_ptr<TLSLayer> layer;
};

// A client and a server on the two ends of a pair of sockets, in one thread.
struct Talk {
    explicit Talk(TLSAcceptor& tls, const As& as = {}) : Talk(tls, as, socket_pair()) {}
    Talk(TLSAcceptor& tls, const As& as, std::pair<int, int> fds)
        : client_fd(fds.first), server_fd(fds.second), client(as, fds.first), server(tls.accept(fds.second)) {}
    ~Talk() { close(); }
    Talk(const Talk&) = delete;
    Talk& operator=(const Talk&) = delete;
    void close() {
        client.layer.reset();
        server.reset();
        for (int* fd : {&client_fd, &server_fd})
            if (*fd >= 0) ::close(std::exchange(*fd, -1));
    }

    // Both handshakes, as far as they come; whether both are done.
    bool shake() {
        auto theirs = Did::wants_input, ours = Did::wants_input;
        for (int i = 0; i < 1000; ++i) {
            if (theirs == Did::wants_input || theirs == Did::wants_output) theirs = client.layer->handshake(false);
            if (ours == Did::wants_input || ours == Did::wants_output) ours = server->handshake(false);
            // In TLS 1.3 a client is done before the server has looked at its certificate.
            if (theirs == Did::done && ours == Did::done) break;
            if (theirs == Did::done) flush_client();
            if (ours == Did::failed || ours == Did::ended) break;
            if (theirs == Did::failed || theirs == Did::ended) break;
        }
        if (ours == Did::wants_input) ours = server->handshake(false);  // hears of it
        if (theirs == Did::wants_input) theirs = client.layer->handshake(false);
        return theirs == Did::done && ours == Did::done;
    }
    void flush_client() {
        char none;
        std::size_t got = 0;
        client.layer->read(&none, 0, got, false);
    }
    // What comes out at `to` of what is said at `from`; "(...)" when it does not.
    static std::string carry(TLSLayer& from, TLSLayer& to, std::string_view octets) {
        std::string heard;
        char part[20000];
        std::size_t sent = 0;
        for (int idle = 0; heard.size() < octets.size() && idle < 1000; ++idle) {
            std::size_t n = 0;
            if (sent < octets.size() && from.write(octets.data() + sent, octets.size() - sent, n) == Did::done) {
                sent += n;
                idle = 0;
            }
            const auto did = to.read(part, sizeof part, n, false);
            if (did == Did::failed) return "(failed: " + to.problem() + ")";
            if (did == Did::ended) return "(ended)";
            if (did != Did::done) continue;
            heard.append(part, n);
            idle = 0;
        }
        return heard;
    }
    std::string up(std::string_view octets) { return carry(*client.layer, *server, octets); }
    std::string down(std::string_view octets) { return carry(*server, *client.layer, octets); }
    // The first of the names in the certificate that the client has been shown.
    std::string shown() {
        REQUIRE(shake());
        const auto& peer = client.layer->tls().peer;
        return peer && !peer->names.empty() ? peer->names.front().substr(4) : "(none)";
    }

    int client_fd, server_fd;
    Peer client;
    std::unique_ptr<TLSLayer> server;
};

// A session that the client can come back with: the tickets of TLS 1.3 arrive with the first octets.
SslSession begun(ServerTLS& tls, As as = {}) {
    Talk talk(tls, as);
    REQUIRE(talk.shake());
    REQUIRE(talk.down("220") == "220");
    return talk.client.session();
}

bool resumes(ServerTLS& tls, const SslSession& session, As as = {}) {
    as.session = session.get();
    Talk talk(tls, as);
    REQUIRE(talk.shake());
    CHECK(talk.client.layer->tls().resumed == talk.server->tls().resumed);
    REQUIRE(talk.up("octets") == "octets");
    return talk.server->tls().resumed;
}

std::string refusal(const ServerTLS::Options& options) {
    try {
        ServerTLS tls(options);
    } catch (const std::invalid_argument& e) {
        return std::string("invalid: ") + e.what();
    } catch (const std::exception& e) {
        return e.what();
    }
    return "";
}
std::string refusal(const KeyPair& pair) { return refusal(ServerTLS::Options{.certificates = {pair}}); }

void write(const std::string& file, std::string_view text) { std::ofstream(file) << text; }
bool has(const std::string& text, const std::string& what) { return text.find(what) != text.npos; }

std::size_t open_descriptors() {
    std::size_t n = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) n += entry.exists();
    return n;
}
long resident_kb() {
    std::ifstream status("/proc/self/statm");
    long size = 0, resident = 0;
    status >> size >> resident;
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

std::string receive_now(int fd) {
    char part[65536];
    const auto n = recv(fd, part, sizeof part, MSG_DONTWAIT);
    return {part, std::size_t(std::max<ssize_t>(n, 0))};
}
void send_now(int fd, std::string_view octets) {
    REQUIRE(send(fd, octets.data(), octets.size(), MSG_DONTWAIT | MSG_NOSIGNAL) == ssize_t(octets.size()));
}

}  // namespace

TEST_CASE("TLS 1.3 and 1.2 are spoken, with ciphers of today, and told on both sides") {
    ServerTLS tls(mx().certificate, mx().key);
    for (const auto& [version, name] : {std::pair{TLS1_3_VERSION, "TLSv1.3"}, {TLS1_2_VERSION, "TLSv1.2"}}) {
        Talk talk(tls, {.name = "MX.Test", .version = version});
        REQUIRE(talk.shake());
        for (const auto* side : {talk.server.get(), talk.client.layer.get()}) {
            CHECK(side->tls().version == name);
            CHECK(side->tls().bits == 128);
            CHECK(side->tls().server_name == "mx.test");
            CHECK(!side->tls().resumed);
            CHECK(side->problem() == "");
        }
        CHECK(talk.server->tls().cipher ==
              (version == TLS1_3_VERSION ? "TLS_AES_128_GCM_SHA256" : "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"));
        CHECK(!talk.server->tls().peer);
        const auto& shown = talk.client.layer->tls().peer;
        REQUIRE(shown);
        CHECK(shown->verified);
        CHECK(shown->subject == "CN=mx.test");
        CHECK(shown->issuer == "CN=Test Authority");
        CHECK(shown->names == std::vector<std::string>{"DNS:mx.test"});
        CHECK(shown->fingerprint == Certificates::hex(Certificates::sha256(mx().certificate)));
        CHECK(shown->not_before < std::time(nullptr));
        CHECK(shown->not_after > std::time(nullptr));
        CHECK(talk.up("EHLO me\r\n") == "EHLO me\r\n");
        CHECK(talk.down("250 you\r\n") == "250 you\r\n");
    }
}

TEST_CASE("old versions and old ciphers are refused, with the reason") {
    ServerTLS tls(mx().certificate, mx().key);
    const auto rsa = ca().issue({.names = {"rsa.test"}, .rsa = true});
    ServerTLS by_rsa(rsa.certificate, rsa.key);
    auto why = [](ServerTLS& server, const As& as) {
        Talk talk(server, as);
        CHECK(!talk.shake());
        CHECK(talk.client.layer->problem() != "");
        return talk.server->problem();
    };
    CHECK(why(tls, {.version = TLS1_1_VERSION, .ciphers = "ALL@SECLEVEL=0"}) == "unsupported protocol");
    CHECK(why(tls, {.version = TLS1_2_VERSION, .ciphers = "ECDHE-ECDSA-AES128-SHA"}) == "no shared cipher");
    CHECK(why(tls, {.version = TLS1_2_VERSION, .ciphers = "ECDHE-ECDSA-AES256-SHA384"}) == "no shared cipher");
    CHECK(why(by_rsa, {.version = TLS1_2_VERSION, .ciphers = "AES128-GCM-SHA256"}) == "no shared cipher");
    CHECK(why(by_rsa, {.version = TLS1_2_VERSION, .ciphers = "DHE-RSA-AES128-GCM-SHA256"}) == "no shared cipher");
    CHECK(why(tls, {.groups = "P-521"}) == "no suitable key share");

    ServerTLS newest({.certificates = {mx()}, .min_version = ServerTLS::Version::tls_1_3});
    CHECK(why(newest, {.version = TLS1_2_VERSION}) == "unsupported protocol");
    Talk talk(newest);
    CHECK(talk.shake());
}

TEST_CASE("each of the groups X25519, P-256 and P-384 will do") {
    // In TLS 1.2 an EC certificate would have to be of one of the client's groups too.
    const auto rsa = ca().issue({.names = {"mx.test"}, .rsa = true});
    ServerTLS tls(rsa.certificate, rsa.key);
    for (const auto* group : {"X25519", "P-256", "P-384", "P-521:P-256"})
        for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
            INFO(group, version);
            Talk talk(tls, {.version = version, .groups = group});
            CHECK(talk.shake());
        }
}

TEST_CASE("the certificate is chosen by the name that the client asks for") {
    const auto wild = ca().issue({.names = {"*.wild.test", "wild.test"}});
    const auto exact = ca().issue({.names = {"mail.wild.test", "b.test"}});
    const auto named = ca().issue({.names = {}, .common_name = "Common.Test"});
    ServerTLS tls({.certificates = {mx(), wild, exact, named}});
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        auto asked = [&](const std::string& name) { return Talk(tls, {.name = name, .version = version}).shown(); };
        CHECK(asked("") == "mx.test");
        CHECK(asked("mx.test") == "mx.test");
        CHECK(asked("nobody.test") == "mx.test");
        CHECK(asked("wild.test") == "*.wild.test");
        CHECK(asked("x.wild.test") == "*.wild.test");
        CHECK(asked("X.WILD.TEST") == "*.wild.test");
        CHECK(asked("mail.wild.test") == "mail.wild.test");  // before the wildcard
        CHECK(asked("b.test") == "mail.wild.test");
        CHECK(asked("x.y.wild.test") == "mx.test");  // a wildcard stands for one label
        CHECK(asked("common.test") == "(none)");     // no subjectAltName: by the common name
        CHECK(asked("*.wild.test") == "*.wild.test");
    }
}

TEST_CASE("of the same names there may be an RSA and an EC key; the client's abilities decide") {
    const auto rsa = ca().issue({.names = {"mx.test", "two.test"}, .rsa = true});
    const auto ec = ca().issue({.names = {"two.test"}});
    auto kind = [](ServerTLS& tls, As as) {
        Talk talk(tls, as);
        REQUIRE(talk.shake());
        const SslCertificate shown(SSL_get1_peer_certificate(talk.client.ssl));
        return EVP_PKEY_get_base_id(X509_get0_pubkey(shown.get())) == EVP_PKEY_RSA ? "RSA" : "EC";
    };
    const std::string only_rsa = "rsa_pss_rsae_sha256:RSA+SHA256", only_ec = "ECDSA+SHA256",
                      rsa_too = "ECDSA+SHA256:" + only_rsa;
    for (const auto& pairs : {std::vector{rsa, ec}, {ec, rsa}}) {
        ServerTLS tls({.certificates = pairs});
        for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION})
            for (const auto* name : {"two.test", ""}) {  // the default too has what shares its name
                INFO(version, name);
                CHECK(kind(tls, {.name = name, .version = version, .signatures = only_rsa}) == "RSA");
                CHECK(kind(tls, {.name = name, .version = version, .signatures = rsa_too}) == "EC");
            }
    }
    ServerTLS tls({.certificates = {rsa, ec}});
    CHECK(kind(tls, {.name = "mx.test", .signatures = rsa_too}) == "RSA");  // of that name there is no other
}

TEST_CASE("the chain that is sent is the file's") {
    const auto pair = ca().issue({.names = {"far.test"}, .intermediate = true});
    ServerTLS tls(pair.certificate, pair.key);
    Talk talk(tls);
    REQUIRE(talk.shake());
    CHECK(sk_X509_num(SSL_get_peer_cert_chain(talk.client.ssl)) == 2);
    CHECK(talk.client.layer->tls().peer->verified);
}

TEST_CASE("a client certificate is shown to the program where it was asked for") {
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        const As with{.version = version, .certificate = joe()}, without{.version = version};
        ServerTLS does_not_ask({.certificates = {mx()}});
        Talk unasked(does_not_ask, with);
        REQUIRE(unasked.shake());
        CHECK(!unasked.server->tls().peer);
        for (const auto mode : {Mode::optional, Mode::required}) {
            ServerTLS tls({.certificates = {mx()}, .client_certificate = mode, .client_ca = ca().file()});
            Talk talk(tls, with);
            REQUIRE(talk.shake());
            const auto& peer = talk.server->tls().peer;
            REQUIRE(peer);
            CHECK(peer->verified);
            CHECK(peer->problem == "");
            CHECK(peer->subject == "CN=joe");
            CHECK(peer->names == std::vector<std::string>{"email:joe@mx.test"});
            CHECK(peer->fingerprint == Certificates::hex(Certificates::sha256(joe().certificate)));
            CHECK(talk.up("EHLO") == "EHLO");

            Talk another(tls, without);
            CHECK(another.shake() == (mode == Mode::optional));
            if (mode == Mode::optional) CHECK(!another.server->tls().peer);
            else CHECK(another.server->problem() == "peer did not return a certificate");
        }
    }
}

TEST_CASE("a bad client certificate is told where it is optional, and refused where it is required") {
    Certificates other("Other Authority");
    const Wanted user = of_client({.names = {"email:joe@mx.test"}});
    const std::pair<KeyPair, const char*> bad[] = {
        {ca().issue(expired(user)), "certificate has expired"},
        {ca().issue(not_yet_valid(user)), "certificate is not yet valid"},
        {ca().issue(self_signed(user)), "self-signed certificate"},
        {other.issue(user), "unable to get local issuer certificate"},
        {ca().issue({.names = {"joe.test"}}), "unsuitable certificate purpose"},  // for servers
    };
    ServerTLS optional({.certificates = {mx()}, .client_certificate = Mode::optional, .client_ca = ca().file()});
    ServerTLS required({.certificates = {mx()}, .client_certificate = Mode::required, .client_ca = ca().file()});
    ServerTLS nobody({.certificates = {mx()}, .client_certificate = Mode::optional});
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        for (const auto& [pair, reason] : bad) {
            const std::string why = reason;
            INFO(version, why);
            Talk talk(optional, {.version = version, .certificate = pair});
            REQUIRE(talk.shake());
            REQUIRE(talk.server->tls().peer);
            CHECK(!talk.server->tls().peer->verified);
            CHECK(talk.server->tls().peer->problem == why);
            CHECK(talk.up("EHLO") == "EHLO");

            Talk refused(required, {.version = version, .certificate = pair});
            CHECK(!refused.shake());
            CHECK(refused.server->problem() == "certificate verify failed: " + why);
        }
        Talk talk(nobody, {.version = version, .certificate = joe()});
        REQUIRE(talk.shake());
        CHECK(!talk.server->tls().peer->verified);
    }
}

TEST_CASE("what a certificate says has no control characters") {
    const auto odd = ca().issue(of_client(
        {.names = {std::string("email:a\r\nb\0c@mx.test", 20), "IP:192.0.2.1", "IP:2001:db8::1", "URI:x:\x7f\x01"},
         .common_name = "joe\r\n250 ok"}));
    ServerTLS tls({.certificates = {mx()}, .client_certificate = Mode::optional, .client_ca = ca().file()});
    Talk talk(tls, {.certificate = odd});
    REQUIRE(talk.shake());
    const auto& peer = *talk.server->tls().peer;
    CHECK(peer.verified);
    CHECK(peer.names ==
          std::vector<std::string>{"email:a??b?c@mx.test", "IP:192.0.2.1", "IP:2001:db8:0:0:0:0:0:1", "URI:x:??"});
    CHECK(peer.subject == "CN=joe\\0D\\0A250 ok");
}

TEST_CASE("a session is resumed by its ticket, and remembers who the client was") {
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        ServerTLS tls({.certificates = {mx()}, .client_certificate = Mode::optional, .client_ca = ca().file()});
        const As as{.name = "mx.test", .version = version, .certificate = joe()};
        const auto session = begun(tls, as);
        As again = as;
        again.session = session.get();
        again.certificate = {};
        Talk talk(tls, again);
        REQUIRE(talk.shake());
        CHECK(talk.server->tls().resumed);
        CHECK(talk.client.layer->tls().resumed);
        CHECK(talk.server->tls().server_name == "mx.test");
        REQUIRE(talk.server->tls().peer);
        CHECK(talk.server->tls().peer->subject == "CN=joe");
        CHECK(talk.server->tls().peer->verified);

        tls.reload();
        CHECK(resumes(tls, session, as));
    }
}

TEST_CASE("who resumes a session by TLS 1.3 gets a ticket for the next time, since each is used once") {
    ServerTLS tls({.certificates = {mx()}});
    As as{.version = TLS1_3_VERSION};
    auto session = begun(tls, as);
    for (int i = 0; i < 3; ++i) {
        as.session = session.get();
        auto next = begun(tls, as);
        REQUIRE(next);
        unsigned before = 0, after = 0;
        const auto* used = SSL_SESSION_get_id(session.get(), &before);
        const auto* fresh = SSL_SESSION_get_id(next.get(), &after);
        CHECK(std::string_view(reinterpret_cast<const char*>(used), before) !=
              std::string_view(reinterpret_cast<const char*>(fresh), after));
        CHECK(resumes(tls, next, {.version = TLS1_3_VERSION}));
        session = std::move(next);
    }
}

TEST_CASE("a session is not resumed where it must not be") {
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        const As as{.version = version};
        ServerTLS tls(mx().certificate, mx().key), other(mx().certificate, mx().key);
        CHECK(resumes(tls, begun(tls, as), as));
        CHECK(!resumes(other, begun(tls, as), as));  // has other keys

        ServerTLS never({.certificates = {mx()}, .resumption = std::chrono::seconds(0)});
        const auto none = begun(never, as);
        CHECK(!resumes(never, none, as));

        // Authorities are exchanged: who was believed by the old ones must come again.
        const auto file = ca().path("believed.pem");
        write(file, content_of(ca().file()));
        ServerTLS asks({.certificates = {mx()}, .client_certificate = Mode::optional, .client_ca = file});
        const As user{.version = version, .certificate = joe()};
        const auto session = begun(asks, user);
        CHECK(resumes(asks, session, user));
        Certificates another("Another Authority");
        write(file, content_of(another.file()));
        asks.reload();
        CHECK(!resumes(asks, session, user));
    }
}

TEST_CASE("a forked child resumes what its parent or its sister began") {
    ServerTLS tls(mx().certificate, mx().key);
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        const As as{.version = version};
        const auto session = begun(tls, as);
        const auto child = fork();
        if (child == 0) {
            As again = as;
            again.session = session.get();
            Talk talk(tls, again);
            _exit(talk.shake() && talk.server->tls().resumed ? 0 : 1);
        }
        int status = -1;
        waitpid(child, &status, 0);
        CHECK(status == 0);
    }
}

TEST_CASE("reload() shows new certificates to new clients, and running sessions go on") {
    const auto files = ca().issue({.names = {"first.test"}});
    auto tls = std::make_unique<ServerTLS>(files.certificate, files.key);
    Talk running(*tls), beginning(*tls);
    REQUIRE(running.shake());
    beginning.client.layer->handshake(false);
    beginning.server->handshake(false);
    ca().issue({.names = {"second.test"}}, files);
    CHECK(Talk(*tls).shown() == "first.test");
    tls->reload();
    CHECK(Talk(*tls).shown() == "second.test");
    CHECK(running.up("still here") == "still here");
    tls.reset();
    CHECK(beginning.shown() == "first.test");
    CHECK(running.down("even now") == "even now");
}

TEST_CASE("a reload() that fails names the file and leaves all as it was") {
    const auto files = ca().issue({.names = {"first.test"}});
    ServerTLS tls(files.certificate, files.key);
    const auto session = begun(tls);
    auto why = [&] {
        try {
            tls.reload();
        } catch (const std::exception& e) {
            return std::string(e.what());
        }
        return std::string("nothing");
    };
    write(files.certificate, content_of(mx().certificate));  // half of a renewal
    CHECK(has(why(), files.key + " is not the key of " + files.certificate));
    CHECK(Talk(tls).shown() == "first.test");
    write(files.certificate, "");
    CHECK(has(why(), files.certificate));
    unlink(files.certificate.c_str());
    CHECK(has(why(), files.certificate));
    CHECK(Talk(tls).shown() == "first.test");
    CHECK(resumes(tls, session));
    ca().issue({.names = {"second.test"}}, files);
    CHECK(why() == "nothing");
    CHECK(Talk(tls).shown() == "second.test");
}

TEST_CASE("what can't be used fails at the start with its file's name") {
    const auto good = mx();
    const auto other = ca().issue({.names = {"other.test"}});
    const auto file = ca().path("bad.pem");
    CHECK(refusal(good) == "");
    CHECK(has(refusal({ca().path("missing.pem"), good.key}), ca().path("missing.pem") + ": No such file"));
    CHECK(has(refusal({good.certificate, ca().path("missing.key")}), ca().path("missing.key") + ": No such file"));
    CHECK(has(refusal({"/", good.key}), "/: Is a directory"));
    CHECK(has(refusal({good.certificate, other.key}), other.key + " is not the key of " + good.certificate));
    CHECK(has(refusal({good.key, good.key}), good.key + ": no certificate"));
    CHECK(has(refusal({good.certificate, good.certificate}), good.certificate + ": no private key"));
    for (const std::string text : {"", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}) {
        write(file, text);
        CHECK(has(refusal({file, good.key}), file));
        CHECK(has(refusal({good.certificate, file}), file));
        if (text != "")
            CHECK(
                has(refusal({.certificates = {good}, .client_certificate = Mode::optional, .client_ca = file}), file));
    }
    write(file, content_of(good.certificate) + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    CHECK(has(refusal({file, good.key}), file));
    CHECK(has(refusal(ServerTLS::Options{}), "invalid: "));
    CHECK(has(refusal({.certificates = {good}, .client_certificate = Mode::required}), "invalid: "));
    CHECK(has(refusal({.certificates = {good}, .client_ca = ca().file()}), "invalid: "));

    const std::unique_ptr<EVP_PKEY, Released<EVP_PKEY_free>> key(EVP_EC_gen("P-256"));
    const std::unique_ptr<std::FILE, Released<std::fclose>> out(std::fopen(file.c_str(), "w"));
    PEM_write_PrivateKey(out.get(), key.get(), EVP_aes_128_cbc(), nullptr, 0, nullptr, const_cast<char*>("secret"));
    std::fflush(out.get());
    CHECK(has(refusal({good.certificate, file}), file));  // has a passphrase, and nobody is asked for it

    chmod(good.key.c_str(), 0644);  // is the program's business
    CHECK(refusal(good) == "");
}

TEST_CASE("clients come from many threads while it is reloaded") {
    ServerTLS tls({.certificates = {mx(), ca().issue({.names = {"b.test"}})}});
    std::atomic<int> left = sanitized ? 40 : 400, failed = 0;
    std::vector<Background> threads;
    for (int i = 0; i < 4; ++i)
        threads.emplace_back([&, i] {
            SslSession session;
            while (left-- > 0) {
                As as{.name = i % 2 ? "b.test" : "mx.test"};
                as.session = session.get();
                Talk talk(tls, as);
                if (!talk.shake() || talk.down("220") != "220") ++failed;
                else session = talk.client.session();
            }
        });
    int reloads = 0;
    for (; left > 0; ++reloads) tls.reload();
    for (auto& thread : threads) thread.join(6 * patience);
    CHECK(failed == 0);
    CHECK(reloads > 0);
}

TEST_CASE("the first reply of TLS 1.3 takes the ticket along") {
    ServerTLS tls(mx().certificate, mx().key);
    Talk talk(tls);
    REQUIRE(talk.shake());
    CHECK(receive_now(talk.client_fd) == "");
    CHECK(talk.down("220 hello\r\n") == "220 hello\r\n");
    CHECK(SSL_SESSION_is_resumable(talk.client.session().get()) == 1);
}

TEST_CASE("both sides have the same channel binding, and each connection its own") {
    ServerTLS tls(mx().certificate, mx().key);
    std::string before;
    auto binding = [&](const As& as, const std::string& type, bool resumed) {
        Talk talk(tls, as);
        REQUIRE(talk.shake());
        CHECK(talk.server->tls().resumed == resumed);
        CHECK(talk.server->channel_binding("tls-server-end-point") == "");
        CHECK(talk.server->channel_binding(type == "tls-unique" ? "tls-exporter" : "tls-unique") == "");
        const auto ours = talk.server->channel_binding(type);
        CHECK(ours == talk.client.layer->channel_binding(type));
        CHECK(ours != before);
        before = ours;
        return ours.size();
    };
    As newer{.version = TLS1_3_VERSION}, older{.version = TLS1_2_VERSION};
    CHECK(binding(newer, "tls-exporter", false) == 32);
    CHECK(binding(older, "tls-unique", false) == 12);
    const auto newer_session = begun(tls, newer), older_session = begun(tls, older);
    newer.session = newer_session.get();
    older.session = older_session.get();
    CHECK(binding(newer, "tls-exporter", true) == 32);
    CHECK(binding(older, "tls-unique", true) == 12);
}

TEST_CASE("tls-unique is only for those who have the extended master secret") {
    ServerTLS tls(mx().certificate, mx().key);
    Talk talk(tls, {.version = TLS1_2_VERSION});
    SSL_set_options(talk.client.ssl, SSL_OP_NO_EXTENDED_MASTER_SECRET);
    REQUIRE(talk.shake());
    CHECK(talk.server->channel_binding("tls-unique") == "");
    CHECK(talk.client.layer->channel_binding("tls-unique") == "");
}

TEST_CASE("much goes both ways through small sockets") {
    ServerTLS tls(mx().certificate, mx().key);
    std::string much(3 * 1024 * 1024 + 17, ' ');
    for (std::size_t i = 0; i < much.size(); ++i) much[i] = char(i * 2654435761u >> 16);
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        const auto fds = socket_pair();
        const int small = 4096;
        for (int fd : {fds.first, fds.second}) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
        Talk talk(tls, {.version = version}, fds);
        REQUIRE(talk.shake());
        CHECK(talk.up(much) == much);
        CHECK(talk.down(much) == much);
        talk.server->park();
        CHECK(talk.up("x") == "x");
        CHECK(talk.down("y") == "y");
    }
}

TEST_CASE("a client may change its keys, and ask for ours to be") {
    ServerTLS tls(mx().certificate, mx().key);
    Talk talk(tls, {.version = TLS1_3_VERSION});
    REQUIRE(talk.shake());
    for (int i = 0; i < 5; ++i) {
        REQUIRE(SSL_key_update(talk.client.ssl, i % 2 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED) == 1);
        CHECK(talk.up("EHLO") == "EHLO");
        CHECK(talk.down("250") == "250");
    }
}

TEST_CASE("renegotiation is refused, and the session goes on or ends without harm") {
    ServerTLS tls(mx().certificate, mx().key);
    Talk talk(tls, {.version = TLS1_2_VERSION});
    REQUIRE(talk.shake());
    SSL_clear_options(talk.client.ssl, SSL_OP_NO_RENEGOTIATION);
    REQUIRE(SSL_renegotiate(talk.client.ssl) == 1);
    SSL_do_handshake(talk.client.ssl);
    talk.flush_client();
    char none[10];
    std::size_t got = 0;
    CHECK(talk.server->read(none, sizeof none, got, false) == Did::wants_input);
    talk.server->write("250", 3, got);
    CHECK(talk.client.layer->handshake(false) != Did::done);
}

TEST_CASE("who says goodbye can still be answered; who just goes has ended too") {
    ServerTLS tls(mx().certificate, mx().key);
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        char octets[100];
        std::size_t n = 0;
        Talk polite(tls, {.version = version});
        REQUIRE(polite.shake());
        REQUIRE(polite.client.layer->write("QUIT", 4, n) == Did::done);
        polite.client.layer->end({});
        REQUIRE(polite.server->read(octets, sizeof octets, n, false) == Did::done);
        CHECK(n == 4);
        CHECK(polite.server->read(octets, sizeof octets, n, false) == Did::ended);
        CHECK(polite.server->read(octets, sizeof octets, n, false) == Did::ended);
        CHECK(polite.server->end("221") == Did::done);
        REQUIRE(polite.client.layer->read(octets, sizeof octets, n, false) == Did::done);
        CHECK(std::string(octets, n) == "221");
        CHECK(polite.client.layer->read(octets, sizeof octets, n, false) == Did::ended);

        Talk rude(tls, {.version = version});
        REQUIRE(rude.shake());
        REQUIRE(rude.client.layer->write("QUIT", 4, n) == Did::done);
        ::close(std::exchange(rude.client_fd, -1));
        REQUIRE(rude.server->read(octets, sizeof octets, n, false) == Did::done);
        CHECK(rude.server->read(octets, sizeof octets, n, false) == Did::ended);
        CHECK(rude.server->write("221", 3, n) == Did::failed);
        CHECK(rude.server->problem() != "");
        rude.server->end({});
    }
}

TEST_CASE("what is said last arrives whole, before the goodbye, though it takes many turns") {
    ServerTLS tls(mx().certificate, mx().key);
    Talk talk(tls);
    REQUIRE(talk.shake());
    const std::string last(4 << 20, 'x');
    std::string heard;
    std::vector<char> octets(64 * 1024);
    auto said = talk.server->end(last);
    CHECK(said == Did::wants_output);
    auto read = Did::wants_input;
    while (read == Did::wants_input || read == Did::done) {
        std::size_t n = 0;
        read = talk.client.layer->read(octets.data(), octets.size(), n, false);
        heard.append(octets.data(), n);
        if (read == Did::wants_input) {
            REQUIRE(said == Did::wants_output);
            said = talk.server->end({});
        }
    }
    CHECK(read == Did::ended);
    CHECK(said == Did::done);
    CHECK(heard == last);
}

TEST_CASE("what is no TLS is refused with a reason, and costs nothing") {
    ServerTLS tls(mx().certificate, mx().key);
    for (const auto& octets :
         {std::string("EHLO mx.test\r\n"), std::string("GET / HTTP/1.0\r\n\r\n"), std::string(1000, '\0'),
          std::string(1000, '\xff'),
          std::string("\x16\x03\x01\x40\x01", 5) + std::string(0x4001, 'x'),  // too long a record
          std::string("\x16\x03\x01\x00\x05\x01\xff\xff\xff\xff", 10),        // too long a ClientHello
          std::string("\x17\x03\x03\x00\x01x", 6), std::string("\x15\x03\x01\x00\x02\x02\x28", 7)}) {
        const auto [client, fd] = socket_pair();
        const auto server = tls.accept(fd);
        send_now(client, octets);
        CHECK(server->handshake(false) == Did::failed);
        CHECK(server->problem() != "");
        for (const char c : server->problem()) CHECK(c >= ' ');
        ::close(client);
        ::close(fd);
    }
}

TEST_CASE("a handshake ends when a flight can't be sent, on either side, though the other is still there") {
    ServerTLS tls({.certificates = {mx()}});
    for (const bool ours : {true, false}) {
        CAPTURE(ours);
        Talk talk(tls);
        auto& lost = ours ? *talk.server : *talk.client.layer;
        auto did = Did::done;
        const bool tried = with_faults(
            {SYS_sendto}, [](int, const std::string&) { return ENOBUFS; }, [&] { did = lost.handshake(false); });
        if (!tried) return;
        if (ours) {
            CHECK(did == Did::wants_input);  // it has nothing to say yet
            talk.client.layer->handshake(false);
            with_faults(
                {SYS_sendto}, [](int, const std::string&) { return ENOBUFS; }, [&] { did = lost.handshake(false); });
        }
        CHECK(did == Did::failed);
        CHECK(lost.problem() == std::generic_category().message(ENOBUFS));
        CHECK(lost.handshake(false) == Did::failed);
    }
}

TEST_CASE("a client may vanish after each octet of its handshake") {
    ServerTLS tls({.certificates = {mx()}, .client_certificate = Mode::optional, .client_ca = ca().file()});
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        int done = 0, ended = 0;
        // Octets go by hand from one pair of sockets to another, until there have been `most`.
        auto cut = [&](std::size_t most) {
            const auto [near, client_fd] = socket_pair();
            const auto [far, server_fd] = socket_pair();
            std::size_t passed = 0;
            {
                Peer client({.version = version, .certificate = joe()}, client_fd);
                const auto server = tls.accept(server_fd);
                auto did = Did::wants_input;
                for (int i = 0; i < 20 && did == Did::wants_input; ++i) {
                    client.layer->handshake(false);
                    char none;
                    std::size_t got = 0;
                    if (SSL_is_init_finished(client.ssl)) client.layer->read(&none, 0, got, false);
                    auto octets = receive_now(near);
                    const bool last = passed + octets.size() >= most;
                    octets.resize(std::min(octets.size(), most - passed));
                    passed += octets.size();
                    send_now(far, octets);
                    if (last) shutdown(far, SHUT_WR);
                    did = server->handshake(false);
                    const auto back = receive_now(far);
                    if (!back.empty()) send_now(near, back);
                }
                ++(did == Did::done ? done : ended);
                CHECK((did == Did::done || did == Did::ended));
                CHECK((server->problem() == "") == (did == Did::done));
            }
            for (int fd : {near, far, client_fd, server_fd}) ::close(fd);
            return passed;
        };
        const auto all = cut(1000000);
        CHECK(done == 1);
        const auto too_few = all - 12;  // signatures differ in length, by an octet or two
        for (std::size_t most = 0; most < too_few; most += sanitized ? 61 : 13) cut(most);
        cut(too_few);
        CHECK(done == 1);
        CHECK(ended > 10);
    }
}

TEST_CASE("records that are cut, too long or changed end the session, and none of their octets arrives") {
    ServerTLS tls(mx().certificate, mx().key);
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        bool arrived = false;
        auto after = [&](auto change) {
            Talk talk(tls, {.version = version});
            REQUIRE(talk.shake());
            REQUIRE(talk.up("EHLO") == "EHLO");
            talk.down("250");
            std::size_t n = 0;
            // The client's next record goes to us first.
            REQUIRE(talk.client.layer->write("MAIL FROM:<>\r\n", 14, n) == Did::done);
            auto octets = receive_now(talk.server_fd);
            REQUIRE(octets.size() > 20);
            change(octets);
            send_now(talk.client_fd, octets);
            shutdown(talk.client_fd, SHUT_WR);
            char part[100];
            auto did = talk.server->read(part, sizeof part, n, false);
            const std::size_t whole = did == Did::done ? 14 : 0;
            CHECK(n == whole);
            arrived = did == Did::done;
            if (did == Did::done) did = talk.server->read(part, sizeof part, n, false);
            CHECK(n == 0);
            CHECK(talk.server->read(part, sizeof part, n, false) == did);
            return std::pair{did, talk.server->problem()};
        };
        CHECK(after([](std::string&) {}).first == Did::ended);
        CHECK(arrived);
        CHECK(after([](std::string& octets) { octets.pop_back(); }).first == Did::ended);
        CHECK(!arrived);
        CHECK(after([](std::string& octets) { octets.resize(4); }).first == Did::ended);
        CHECK(after([](std::string& octets) { octets.back() ^= 1; }).second == "decryption failed or bad record mac");
        CHECK(after([](std::string& octets) { octets[0] = 'x'; }).first == Did::failed);
        CHECK(after([](std::string& octets) { octets += "EHLO in the clear\r\n"; }).first == Did::failed);
        CHECK(arrived);
        const auto too_long = after([](std::string& octets) {
            octets[3] = 0x48;
            octets.append(0x4800, 'x');
        });
        CHECK(too_long.first == Did::failed);
        CHECK(has(too_long.second, "too long"));
    }
}

TEST_CASE("a connection's handshake ends on its deadline, whether the peer is silent or drips") {
    ServerTLS tls(mx().certificate, mx().key);
    for (const bool drips : {false, true}) {
        const auto [ours, theirs] = socket_pair();
        Connection connection(theirs);
        std::atomic<bool> over = false;
        Background client([&, fd = ours] {
            // The head of a long ClientHello, and then octet by octet.
            if (drips) send(fd, "\x16\x03\x01\x3f\xff\x01\x00\x3f\xfb\x03\x03", 11, MSG_NOSIGNAL);
            while (drips && !over) {
                send(fd, "x", 1, MSG_NOSIGNAL);
                std::this_thread::sleep_for(2ms);
            }
        });
        std::string problem;
        const auto deadline = Clock::now() + 1200ms;
        CHECK(!connection.encrypt(tls.accept(connection.fd()), deadline, problem));
        CHECK(Clock::now() >= deadline);
        over = true;
        client.join();
        CHECK(problem == "the handshake was not over in time");
        CHECK(!connection.tls());
        ::close(ours);
    }
}

TEST_CASE("a connection is not held by records that say nothing") {
    ServerTLS tls(mx().certificate, mx().key);
    const auto [ours, theirs] = socket_pair();
    Connection connection(theirs);
    std::atomic<bool> over = false;
    Background client([&, fd = ours] {
        Peer peer({.version = TLS1_3_VERSION}, fd);
        while (peer.layer->handshake(true) != Did::done) {
        }
        std::size_t n = 0;
        char none;
        while (!over) {
            SSL_key_update(peer.ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
            SSL_do_handshake(peer.ssl);
            peer.layer->read(&none, 1, n, false);  // sends it
        }
    });
    std::string problem;
    REQUIRE(connection.encrypt(tls.accept(connection.fd()), Clock::now() + patience, problem));
    std::string_view line;
    const auto deadline = Clock::now() + 300ms;
    CHECK(connection.read_line(line, 100, deadline) == Connection::Got::timeout);
    CHECK(Clock::now() >= deadline);
    over = true;
    client.join();
    ::close(ours);
}

TEST_CASE("a connection reads lines and bodies through TLS, and says goodbye") {
    ServerTLS tls(mx().certificate, mx().key);
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        const auto [ours, theirs] = socket_pair();
        Connection connection(theirs), far(ours);
        CHECK(connection.can_encrypt());
        const std::string body(300000, 'b');
        Background client([&] {
            std::string problem;
            Peer peer({.version = version}, far.fd());
            REQUIRE(far.encrypt(std::move(peer.layer), Clock::now() + patience, problem));
            far.out() = "EHLO me\r\nMAIL\r\n";
            std::string_view line;
            REQUIRE(far.read_line(line, 100, Clock::now() + patience) == Connection::Got::data);
            CHECK(line == "250 ok");
            CHECK(far.send(body, Clock::now() + patience));
            far.finish(true);
        });
        std::string problem;
        REQUIRE(connection.encrypt(tls.accept(connection.fd()), Clock::now() + patience, problem));
        CHECK(!connection.can_encrypt());
        REQUIRE(connection.tls());
        CHECK(connection.tls()->version == (version == TLS1_2_VERSION ? "TLSv1.2" : "TLSv1.3"));
        std::string_view line;
        REQUIRE(connection.read_line(line, 100, Clock::now() + patience) == Connection::Got::data);
        CHECK(line == "EHLO me");
        REQUIRE(connection.read_line(line, 100, Clock::now() + patience) == Connection::Got::data);
        CHECK(line == "MAIL");
        CHECK(!connection.peer_gone());
        connection.out() = "250 ok\r\n";
        std::string heard, part(65536, '\0');
        std::size_t got = 0;
        while (connection.receive(part.data(), part.size(), got, Clock::now() + patience) == Connection::Got::data)
            heard.append(part, 0, got);
        CHECK(heard == body);
        CHECK(connection.peer_gone());
        connection.close();
        client.join();
    }
}

TEST_CASE("ten thousand handshakes leave nothing behind") {
    ServerTLS tls(mx().certificate, mx().key);
    const auto descriptors = open_descriptors();
    auto some = [&](int handshakes) {
        SslSession sessions[2];
        for (int i = 0; i < handshakes; ++i) {
            auto& session = sessions[i % 2];
            As as{.version = i % 2 ? TLS1_2_VERSION : TLS1_3_VERSION};
            if (i % 16 < 12) as.session = session.get();
            Talk talk(tls, as);
            if (i % 16 == 5) {  // and some that come to nothing
                talk.client.layer->handshake(false);
                ::close(std::exchange(talk.client_fd, -1));
                static_cast<void>(talk.server->handshake(false));  // its own flight
                CHECK(talk.server->handshake(false) == Did::ended);
                continue;
            }
            REQUIRE(talk.shake());
            if (talk.down("220") == "220") session = talk.client.session();
        }
    };
    some(sanitized ? 20 : 1000);
    const auto before = resident_kb();
    some(sanitized ? 100 : 9000);
    CHECK(open_descriptors() == descriptors);
    if (!sanitized) CHECK(resident_kb() - before < 2048);  // a quarter of a kilobyte each would be more
}
