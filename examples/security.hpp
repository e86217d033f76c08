// security -- what the examples share of TLS and AUTH: files named on the command line, read again on SIGHUP.
#pragma once

#include <atomic>
#include <csignal>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <Net/SMTP/Server.hpp>
#include <Net/SMTP/Server/Sasl.hpp>

#include "accounts.hpp"
#include "arguments.hpp"

// What the options say of the server's side.
class SecurityFiles {
public:
    // The program's own options and ours behind them.
    static std::vector<Option> options(std::vector<Option> others) {
        const std::vector<Option> ours{
            {"--tls-cert", "FILE", "certificate and its chain, PEM: offers STARTTLS; again for more", "--tls-key"},
            {"--tls-key", "FILE", "its key, PEM; one for each --tls-cert", "--tls-cert"},
            {"--tls-port", "HOST:PORT", "where to listen with TLS from the start; again for more", "--tls-cert", "",
             is_address},
            {"--require-tls", "", "takes no mail without TLS", "--tls-cert"},
            {"--tls-client-ca", "FILE", "asks clients for certificates of these authorities, PEM", "--tls-cert"},
            {"--auth-file", "FILE", "users with passwords or keys, see passwd: offers AUTH where there is TLS"},
            {"--token-file", "FILE", "bearer tokens, as user:token: offers XOAUTH2 and OAUTHBEARER", "--auth-file"},
            {"--auth-external", "", "a certificate of --tls-client-ca logs its e-mail address in", "--auth-file"},
            {"--auth-loopback", "", "offers AUTH to this machine's own clients in the clear too", "--auth-file"}};
        others.insert(others.end(), ours.begin(), ours.end());
        return others;
    }

    // Throws what the files are refused with. SIGHUP is this object's from now on; make it before any thread.
    explicit SecurityFiles(const Arguments& given) {
        const auto certificates = given.all("--tls-cert"), keys = given.all("--tls-key");
        if (certificates.size() != keys.size()) given.refuse("--tls-cert", "each needs its --tls-key");
        if (given.has("--auth-file") && keys.empty() && !given.has("--auth-loopback"))
            given.refuse("--auth-file", "nobody could log in without --tls-cert or --auth-loopback");
        if (given.has("--auth-external") && !given.has("--tls-client-ca"))
            given.refuse("--auth-external", "has no effect without --tls-client-ca");
        Net::SMTP::ServerTLS::Options files;
        for (std::size_t i = 0; i < keys.size(); ++i) files.certificates.push_back({certificates[i], keys[i]});
        files.client_ca = given("--tls-client-ca");
        if (!files.client_ca.empty()) files.client_certificate = Net::SMTP::ServerTLS::ClientCertificate::optional;
        if (!keys.empty()) tls_ = std::make_shared<Net::SMTP::ServerTLS>(files);
        if (given.has("--auth-file"))
            accounts_ = std::make_shared<AccountFiles>(given("--auth-file"), given("--token-file"),
                                                       given.has("--auth-external"));
        sigset_t hang_up;
        sigemptyset(&hang_up);
        sigaddset(&hang_up, SIGHUP);
        pthread_sigmask(SIG_BLOCK, &hang_up, nullptr);
    }
    ~SecurityFiles() {
        if (!reader_) return;
        ended_ = true;
        pthread_kill(reader_->native_handle(), SIGHUP);
        reader_->join();
    }
    SecurityFiles(const SecurityFiles&) = delete;
    SecurityFiles& operator=(const SecurityFiles&) = delete;

    void apply(Net::SMTP::Options& options, const Arguments& given) const {
        options.tls = tls_;
        options.require_tls = given.has("--require-tls");
        if (accounts_)
            options.auth = std::make_shared<Net::SMTP::Sasl>(Net::SMTP::Sasl::Options{.accounts = accounts_});
        if (given.has("--auth-loopback")) options.clear_auth = Net::SMTP::ClearAuth::loopback;
    }

    // Where to listen, the ports with TLS from the start behind the others.
    static std::vector<std::string> addresses(const Arguments& given) {
        auto all = given.all("--listen");
        for (const auto& with_tls : given.all("--tls-port")) all.push_back("tls:" + with_tls);
        return all;
    }

    // Reads the files again whenever SIGHUP comes, in a thread. New sessions use what is there then; of a file that is
    // refused the old contents stay in use.
    void reload_on_hang_up() {
        reader_.emplace([this] {
            sigset_t hang_up;
            sigemptyset(&hang_up);
            sigaddset(&hang_up, SIGHUP);
            for (int number; sigwait(&hang_up, &number) == 0 && !ended_;) reload();
        });
    }

private:
    void reload() {
        const auto attempt = [](const char* what, auto&& read) {
            try {
                read();
                std::fprintf(stderr, "%s read again\n", what);
            } catch (const std::exception& e) {
                std::fprintf(stderr, "%s not read again, the old ones stay: %s\n", what, e.what());
            }
        };
        if (tls_) attempt("certificates", [&] { tls_->reload(); });
        if (accounts_) attempt("accounts", [&] { accounts_->reload(); });
    }

    std::shared_ptr<Net::SMTP::ServerTLS> tls_;
    std::shared_ptr<AccountFiles> accounts_;
    std::atomic<bool> ended_{false};
    std::optional<std::thread> reader_;
};
