// auth -- what clients say in an exchange: nobody gets in but who proves it, and what is changed on the way proves
// none.
#include <optional>
#include <vector>

#include "../../Server/Base64.hpp"
#include "../../Server/Sasl.hpp"
#include "../../Server/SaslCrypto.hpp"
#include "../../Server/SaslScram.hpp"
#include "fuzz.hpp"

using namespace Net::SMTP;

namespace {

using fuzz::require, fuzz::same;
using Is = AuthExchange::Step::Is;

const std::string user = "user", password = "pencil", token = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29t",
                  salt = "0123456789";
constexpr unsigned iterations = 4096;

Sasl& mechanisms() {
    static Sasl all(std::make_shared<AccountFunctions>(AccountFunctions::Functions{
        .password = [](auto& u, auto& p, auto&) { return u == user && p == password; },
        .keys =
            [](auto& u) {
                static const auto keys = scram_keys(password, iterations, salt);
                return u == user ? std::optional(keys) : std::nullopt;
            },
        .token = [](auto&, auto& t, auto&) { return t == token ? std::optional(user) : std::nullopt; }}));
    return all;
}

// One octet more, less or another one, somewhere; or another text altogether.
struct Change {
    std::uint8_t kind = 0, octet = 0;
    std::size_t at = 0;
    std::string_view text;
    std::string of(std::string said) const {
        const auto where = said.empty() ? 0 : at % said.size();
        switch (kind % 5) {
            case 0: break;
            case 1: said.insert(where, 1, char(octet)); break;
            case 2:
                if (!said.empty()) said.erase(where, 1);
                break;
            case 3:
                if (!said.empty()) said[where] = char(octet);
                break;
            default: return std::string(text);
        }
        return said;
    }
};

bool ascii(std::string_view text) {
    for (const char c : text)
        if (static_cast<unsigned char>(c) > 127) return false;
    return true;
}

// Whether it is who it says it is.
void check_end(const AuthExchange::Step& step, bool honest, std::string_view said) {
    require((step.is == Is::success) == honest, "who proves it gets in, and nobody else", said, honest);
    if (step.is == Is::success) same(step.user, user, "as who it is");
    else require(step.user.size() <= 12'288, "a name has a limit", said);
}

// RFC 4616: [authzid] NUL authcid NUL passwd. Only ASCII: others may be prepared to the same.
void plain(AuthExchange& exchange, const std::string& said) {
    const std::string nul(1, '\0'), right = nul + user + nul + password;
    const auto step = exchange.step(said);
    if (ascii(said)) check_end(step, said == right || said == user + right, said);
}

void login(AuthExchange& exchange, const std::string& name, const std::string& secret) {
    require(exchange.step(std::nullopt).is == Is::challenge, "it asks for the name");
    auto step = exchange.step(name);
    if (step.is != Is::challenge) return require(step.is == Is::failure, "a name that is none ends it", name);
    step = exchange.step(secret);
    if (ascii(name) && ascii(secret)) check_end(step, name == user && secret == password, name);
}

void cram(AuthExchange& exchange, const Change& change) {
    const auto asked = exchange.step(std::nullopt);
    require(asked.is == Is::challenge && !asked.data.empty(), "it asks");
    const auto right = user + ' ' + hexadecimal(hmac_md5(password, asked.data));
    const auto said = change.of(right);
    // The digest may be in capitals, of those who do so.
    auto small = said;
    for (auto i = std::min(said.rfind(' '), said.size()); i < small.size(); ++i)
        if (small[i] >= 'A' && small[i] <= 'F') small[i] = char(small[i] + 32);
    check_end(exchange.step(said), small == right, said);
}

// RFC 5802. Each message may be changed on the way, or by a client that goes on with what it has said; that one may
// have said the same in other words.
void scram(AuthExchange& exchange, const Change& first_change, const Change& final_change, bool on_the_way) {
    static const auto salted = pbkdf2_sha256(password, salt, iterations);
    static const auto key = client_key(salted), stored = sha256(key);
    const std::string honest = "n,,n=" + user + ",r=fyko+d2lbbFgONRv9qkxdawL", first = first_change.of(honest);
    auto step = exchange.step(first);
    if (step.is != Is::challenge) return require(step.is == Is::failure, "what makes no sense ends it", first);
    const auto server_first = Scram::read_server_first(step.data);
    require(server_first && server_first->iterations == iterations, "the challenge is one", step.data);
    same(Scram::write(*server_first), step.data, "and can be written again");
    const auto heard = Scram::read_client_first(on_the_way ? honest : first);
    require(heard.has_value(), "what was answered is one", first);
    require(server_first->nonce.starts_with(Scram::read_client_first(first)->nonce), "our nonce begins as theirs");

    const auto meant = "c=biws,r=" + server_first->nonce;
    const auto dialogue = Scram::dialogue(heard->bare, step.data, meant);
    const auto right = meant + ",p=" + base64_encode(Scram::proof(key, stored, dialogue));
    const auto final = final_change.of(right);
    step = exchange.step(final);
    const bool unchanged = first == honest && final == right;
    if (unchanged || on_the_way) return check_end(step, unchanged, final);
    require(step.is != Is::success || (step.user == user && heard->user == user), "it is who has the password", final);
    if (final != right) require(step.is != Is::success, "what proves nothing is no proof", final);
}

void bearer(AuthExchange& exchange, const std::string& said) {
    const auto step = exchange.step(said);
    require(step.is != Is::success || said.find(token) != said.npos, "nobody gets in without the token", said);
    if (step.is == Is::challenge) require(exchange.step("\1").is == Is::failure, "what was wrong stays so", said);
}

void check_texts(std::string_view text) {
    if (const auto keys = ScramKeys::parse(text)) {
        require(keys->iterations >= 1 && keys->iterations <= ScramKeys::most_iterations, "iterations have limits");
        require(keys->stored_key.size() == 32 && keys->server_key.size() == 32 && !keys->salt.empty(),
                "keys are whole");
        require(ScramKeys::parse(keys->str())->str() == keys->str(), "they can be kept", text);
    }
    same(Scram::unescape(Scram::escape(text)).value_or("no"), text.find('\0') == text.npos ? text : "no",
         "a name can be written");
    if (const auto name = Scram::unescape(text)) same(Scram::escape(*name), text, "and in one way only");
    if (const auto first = Scram::read_client_first(text))
        require(!first->nonce.empty() && !first->user.empty() && text.ends_with(first->bare), "a message is whole",
                text);
    if (const auto server = Scram::read_server_first(text))
        require(!server->nonce.empty() && !server->salt.empty() && server->iterations > 0, "a challenge is whole",
                text);
    if (const auto last = Scram::read_client_final(text))
        require(!last->nonce.empty() && text.starts_with(last->without_proof), "a proof is whole", text);
}

}  // namespace

void fuzz::run(Input input) {
    const auto which = input.octet();
    Change first{input.octet(), input.octet(), input.octet(), {}},
        second{input.octet(), input.octet(), input.octet(), {}};
    check_texts(input.rest());
    first.text = input.until('\n');
    second.text = input.rest();
    const Channel channel{nullptr, {}, {}, "mx.test"};
    static constexpr std::string_view names[] = {"PLAIN",         "LOGIN",       "CRAM-MD5",
                                                 "SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2"};
    const auto name = names[which % std::size(names)];
    // CRAM-MD5 needs a password kept by every account.
    static Sasl kept(std::make_shared<AccountFunctions>(AccountFunctions::Functions{
        .clear_password = [](auto& u) { return u == user ? std::optional(password) : std::nullopt; }}));
    const auto exchange = (name == "CRAM-MD5" ? kept : mechanisms()).begin(name, channel);
    require(exchange != nullptr, "what is offered can be begun", name);

    if (name == "PLAIN") plain(*exchange, first.of(std::string(1, '\0') + user + std::string(1, '\0') + password));
    else if (name == "LOGIN") login(*exchange, first.of(user), second.of(password));
    else if (name == "CRAM-MD5") cram(*exchange, first);
    else if (name == "SCRAM-SHA-256") scram(*exchange, first, second, which & 64);
    else if (name == "OAUTHBEARER") bearer(*exchange, first.of("n,a=user,\1auth=Bearer " + token + "\1\1"));
    else bearer(*exchange, first.of("user=user\1auth=Bearer " + token + "\1\1"));

    require(exchange->step(first.text).is == Is::failure, "an exchange that has ended has ended");
}
